"""The proxy check: its verdict on proxies whose worth is known, and the command."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vitpareto.search.cli.commands import cli
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.experiments.proxy_check import Trainer, log_of, succeeded, train_all
from vitpareto.search.experiments.proxy_figures import FEATURES, features, proxy_figures
from vitpareto.search.experiments.proxy_plot import scatter
from vitpareto.search.experiments.stratified_pairs import stratified_pairs
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.search.store.run_folder import RunPaths
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import FailedError, RunError

from ..small import TEXT

IMAGES = 1000


@pytest.fixture(scope="module")
def setting():
    """Candidates whose true accuracy is known: size helps, and so does something hidden."""
    space = SearchSpace.from_yaml("digits")
    pairs = stratified_pairs(space, 20, 0)
    candidates = [c for pair in pairs for c in (pair.first, pair.second)]
    rng = np.random.default_rng(0)
    size = np.log(features(candidates)[:, FEATURES.index("params")])
    size = (size - size.mean()) / size.std()
    true = 0.85 + 0.03 * size + 0.03 * rng.normal(size=40)
    runs = [
        (t + 0.005 * rng.normal(size=3 if i % 4 == 0 else 1)).tolist() for i, t in enumerate(true)
    ]
    return candidates, pairs, true, runs, rng


def test_a_good_proxy_is_trusted(setting) -> None:
    candidates, pairs, true, runs, _ = setting
    found = proxy_figures(candidates, true.tolist(), runs, pairs, IMAGES)
    assert found["trusted"] and found["kendall_tau"] > 0.85
    assert found["kendall_tau_low"] < found["kendall_tau"] < found["kendall_tau_high"]
    assert found["noise_ceiling"] == pytest.approx(found["kendall_tau"], abs=0.06)
    assert found["seed_sd"] == pytest.approx(0.005, rel=0.5)
    assert found["advantage_low"] > 0 and found["top_5_regret"] == 0
    signs = found["sign_agreement"]
    assert signs["all"]["share"] > 0.85
    assert signs["all"]["pairs"] == sum(v["pairs"] for k, v in signs.items() if k != "all")


def test_size_alone_is_not(setting) -> None:
    candidates, pairs, _, runs, _ = setting
    size = features(candidates)[:, 0]
    found = proxy_figures(candidates, size.tolist(), runs, pairs, IMAGES)
    assert not found["trusted"]
    assert found["kendall_tau"] == found["baselines"]["params"]["kendall_tau"]
    assert found["advantage"] <= 0


def test_chance_is_not(setting) -> None:
    candidates, pairs, _, runs, rng = setting
    found = proxy_figures(candidates, rng.normal(size=40).tolist(), runs, pairs, IMAGES)
    assert not found["trusted"] and found["kendall_tau_low"] < 0.1


def test_the_result_is_json_without_nan_and_a_picture(setting) -> None:
    candidates, pairs, true, runs, _ = setting
    found = proxy_figures(candidates, true.tolist(), runs, pairs, IMAGES)
    json.dumps(found, allow_nan=False)
    picture = scatter(found | {"space": "cost_$_$", "n": 40})
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def test_with_one_seed_each_chance_is_not_known_and_pairs_are_counted(setting) -> None:
    candidates, pairs, true, runs, _ = setting
    found = proxy_figures(candidates, true.tolist(), [run[:1] for run in runs], pairs, IMAGES)
    json.dumps(found, allow_nan=False)
    assert found["seed_sd"] is found["noise_ceiling"] is None
    assert found["sign_agreement"]["all"]["pairs"] == len(pairs)


def test_too_few_trainings_tell_nothing(setting, tmp_path: Path) -> None:
    candidates, log = setting[0][:6], EvaluationLog(tmp_path / "log")
    for candidate in candidates[:3]:
        log.append(Evaluation(candidate, "complete", {"seed_0": 0.5}))
    for candidate in candidates[3:]:
        log.append(Evaluation(candidate, "failed", reason="MemoryError: too large"))
    with pytest.raises(FailedError, match=r"^proxy: 3 of 6 .* failed: MemoryError: too large$"):
        succeeded(candidates, log)
    log.append(Evaluation(setting[0][6], "complete", {"seed_0": 0.5}))
    assert succeeded(setting[0][:7], log) == [*candidates[:3], setting[0][6]]


def test_nothing_to_rank(setting) -> None:
    candidates, pairs, true, runs, _ = setting
    with pytest.raises(RunError, match="all 40 candidates are equally accurate when scored"):
        proxy_figures(candidates, [0.5] * 40, runs, pairs, IMAGES)
    with pytest.raises(RunError, match="equally accurate when trained alone"):
        proxy_figures(candidates, true.tolist(), [[0.5]] * 40, pairs, IMAGES)


def test_a_training_that_fails_costs_one_candidate(tmp_path: Path) -> None:
    """Not the check, which it ended at the same candidate again and again."""
    space = SearchSpace.from_text(TEXT)
    candidates = list({c.key: c for c in space.sample(6, 0)}.values())

    @dataclass(frozen=True)
    class Diverging:
        seed: int = 0

        def with_seed(self, seed: int) -> "Diverging":
            return Diverging(seed)

        def __call__(self, candidate: Candidate) -> dict[str, float]:
            if candidate.key == candidates[2].key and self.seed == 1:
                raise RunError("the loss is nan at step 7; try a smaller lr")
            return {"accuracy": 0.5 + self.seed / 10}

    trainer = Trainer(Diverging(), {c.key: range(2) for c in candidates})  # type: ignore[arg-type]
    log = EvaluationLog(tmp_path / "log")
    train_all(candidates, Scores(trainer, LocalExecutor(), log), trainer, 1)
    assert succeeded(candidates, log) == [c for c in candidates if c is not candidates[2]]
    assert log[candidates[2].key].reason == "RunError: the loss is nan at step 7; try a smaller lr"
    assert log[candidates[0].key].metrics == {"seed_0": 0.5, "seed_1": 0.6}


def test_trainings_are_resumed(setting, tmp_path: Path) -> None:
    candidates = setting[0][:10]
    asked: list[str] = []

    class Stopping(Trainer):
        def __call__(self, candidate, costs) -> Evaluation:
            asked.append(candidate.key)
            if len(asked) == 7:
                raise KeyboardInterrupt
            return Evaluation(candidate, "complete", {"seed_0": 0.5})

    trainer = Stopping(None, {c.key: range(1) for c in candidates})  # trains nothing
    log = EvaluationLog(tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        train_all(candidates, Scores(trainer, LocalExecutor(), log), trainer, 1)
    log = EvaluationLog(tmp_path / "log")
    assert len(log) == 6
    train_all(candidates, Scores(trainer, LocalExecutor(), log), trainer, 3)
    assert [*asked[:6], *asked[7:]] == [c.key for c in candidates] and len(log) == 10


def test_trainings_for_another_accuracy_or_by_another_recipe_are_others(tmp_path: Path) -> None:
    goals, recipes = ("accuracy", "balanced_accuracy"), ("", "{}", '{"lr": 1}')
    logs = {log_of(RunPaths(tmp_path), goal, recipe) for goal in goals for recipe in recipes}
    assert len(logs) == 6
    assert RunPaths(tmp_path).proxy_trainings in logs  # as releases before this one called it


@pytest.mark.slow
def test_the_command_checks_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(TEXT)
    Path("tiny.yaml").write_text(
        "space: space.yaml\nteacher: {epochs: 4}\nsupernet: {epochs: 4}\nexecutor: {threads: 1}\n"
        "proxy: {epochs: 2, short_steps: [2]}\nforecast: {candidates: 8, steps: 3}\n"
    )
    command = ["proxy", "tiny.yaml", "-n", "6", "--json"]
    first = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert first.exit_code == 0
    found = json.loads(first.stdout)
    assert found["n"] == 6 and found["trainings"] == 10
    assert -1 <= found["kendall_tau"] <= 1
    assert json.loads(Path("runs/tiny/proxy.json").read_text()) == found
    logs = [Path("runs/tiny") / f"{name}_trainings.jsonl" for name in ("proxy", "short")]
    lines = [log.read_text() for log in logs]
    second = CliRunner().invoke(cli, command, catch_exceptions=False)
    again = json.loads(second.stdout)
    assert [log.read_text() for log in logs] == lines, "nothing is trained twice"
    assert found["inherited"]["kendall_tau"] is not None
    assert found["short"]["2"]["kendall_tau"] is not None
    for whole in (found, again):  # but scores are timed again
        for result in (whole, whole["short"]["2"], whole["inherited"]):
            assert result.pop("score_ms") > 0
    assert again == found
