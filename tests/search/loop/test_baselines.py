from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage

from vitpareto.search.executors import LocalExecutor
from vitpareto.search.experiments.sampler_comparison import (
    compare,
    comparison_text,
    draw_comparison,
)
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.task import Task, Told
from vitpareto.search.loop.uniform_scaling import ascending, field, scalings
from vitpareto.search.samplers import SAMPLERS
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.spaces import Candidate, Choice, Scalar, SearchSpace

from ..table import OBJECTIVES, Table

PRESETS = ["digits", "deit_tiny", "mobile_hybrid"]
VARIES = {
    "uniform": {"depth", "width", "num_heads", "mlp_ratio", "input_size"},
    "patch-size": {"patch_size"},
    "prune": {"num_heads", "mlp_ratio", "prune_ratio", "mixer_prune_ratio", "mlp_prune_ratio"},
    "int8": {"weight_bits", "act_bits"},
}


def _lengths(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    return [{"latency_ms": float(len(candidate.to_json()))} for candidate in candidates]


def proposals(space: SearchSpace, name: str, n: int) -> list[dict[str, Scalar]]:
    """Active choices of what is proposed; every score is the same."""
    task = Task(space, OBJECTIVES, _lengths, 0, n)
    proposer, history = SAMPLERS[name](task), list[Told]()
    found: list[dict[str, Scalar]] = []
    for _ in range(n):
        assignment = proposer.propose(lambda: history)
        if assignment is None:
            break
        history.append(Told(assignment, {"accuracy": 0.5}))
        found.append(space.assignment(space.candidate(assignment)))
    return found


@pytest.mark.parametrize("name", [*VARIES, "surrogate", "sequential"])
def test_trials_have_the_choices_of_the_candidates_that_were_tried(
    name: str, tmp_path: Path
) -> None:
    """Also those that a proposal leaves as in the largest network; the study is read by others."""
    space, journal = SearchSpace.from_yaml("mobile_hybrid"), tmp_path / "study.journal"
    sampler = Sampler(name, Task(space, OBJECTIVES, _lengths, 0, 12), journal)
    tried: list[str] = []
    while len(tried) < 12 and (proposal := sampler.ask()):
        candidate = space.candidate(proposal.assignment)
        tried.append(candidate.key)
        sampler.tell(proposal, tried[-1], {"accuracy": 0.5, "latency_ms": 1.0}, {})
    storage = JournalStorage(JournalFileBackend(str(journal)))
    trials = optuna.load_study(study_name=space.name, storage=storage).trials
    assert [space.candidate(trial.params).key for trial in trials] == tried


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", VARIES)
def test_a_baseline_varies_its_own_choices_of_the_largest(preset: str, name: str) -> None:
    space = SearchSpace.from_yaml(preset)
    largest = space.assignment(space.largest())
    for assignment in proposals(space, name, 14):
        for choice, value in assignment.items():
            if choice.rpartition(".")[2] not in VARIES[name]:
                assert value == largest.get(choice, value)


@pytest.mark.parametrize("preset", PRESETS)
def test_sequential_goes_step_by_step(preset: str) -> None:
    space = SearchSpace.from_yaml(preset)
    n = 24
    found = proposals(space, "sequential", n)
    assert len(found) == n
    largest = space.assignment(space.largest())
    tokens = {"token_keep", "token_keep_at", "token_reduction"}
    policy = {"weight_bits", "act_bits", "prune_ratio"}

    def changed(assignment: dict[str, Scalar]) -> set[str]:
        names = {c for c, v in assignment.items() if c in largest and v != largest[c]}
        return {c.rpartition(".")[2].removeprefix("mixer_").removeprefix("mlp_") for c in names}

    for assignment in found[: n // 2]:
        assert not changed(assignment) & (tokens | policy)
    for assignment in found[n // 2 : 3 * n // 4]:
        assert not changed(assignment) & policy
    assert any(changed(assignment) & policy for assignment in found[3 * n // 4 :])


@pytest.mark.parametrize("preset", PRESETS)
def test_scalings_grow(preset: str) -> None:
    from vitpareto.cost_models import workload

    space = SearchSpace.from_yaml(preset)
    params = [workload(space.candidate(a)).params for a in scalings(space, 7)]
    assert params == sorted(params)
    assert params[0] < params[-1] / 3
    assert params[-1] == workload(space.largest()).params


def test_one_trial_is_enough_for_any_sampler(tmp_path: Path) -> None:
    """Also in a space of one candidate."""
    space = SearchSpace.from_text(
        "{name: one, input_size: 8, patch_size: 4, in_chans: 1, num_classes: 2, "
        "stages: [{depth: 1, width: 16, num_heads: 2}]}"
    )
    for sampler in SAMPLERS:
        task = Task(space, OBJECTIVES, lambda some: [{"macs": 1.0} for _ in some], 0, 1)
        proposal = Sampler(sampler, task).ask()
        assert proposal and space.candidate(proposal.assignment) == space.largest(), sampler


def test_ascending() -> None:
    assert ascending(Choice("patch_size", (4, 16, 8))) == [16, 8, 4]
    assert ascending(Choice("stages.0.width", (64, 48))) == [48, 64]
    assert ascending(Choice("norm", ("rms", "layer"))) == ["rms", "layer"]
    assert field(Choice("stages.0.blocks.1.mlp_prune_ratio", (0.0, 0.5))) == "mlp_prune_ratio"
    assert ascending(Choice("stages.0.blocks.1.mlp_prune_ratio", (0.0, 0.5))) == [0.5, 0.0]


def test_compare(table: Table, tmp_path: Path) -> None:
    log = EvaluationLog(tmp_path / "log")

    def scoring() -> Scores:
        def score(candidate, costs):
            return Evaluation(candidate, "complete", table.rows[candidate.key].metrics)

        return Scores(score, LocalExecutor(), log)

    task = Task(table.space, OBJECTIVES, table.costs, 0, 20)
    names = ["surrogate", "random", "patch-size", "uniform"]
    outcomes = compare(names, task, scoring, seeds=3)
    assert [o.mean for o in outcomes] == sorted((o.mean for o in outcomes), reverse=True)
    by_name = {o.name: o for o in outcomes}
    assert by_name["surrogate"].scored == by_name["random"].scored == (20, 20, 20)
    assert by_name["patch-size"].scored == (2, 2, 2)
    assert by_name["surrogate"].mean > by_name["random"].mean > by_name["patch-size"].mean
    assert by_name["patch-size"].half_width == 0 < by_name["random"].half_width
    again = compare(["random"], task, scoring, seeds=3)
    assert [f.tolist() for f in again[0].fronts] == [f.tolist() for f in by_name["random"].fronts]
    assert comparison_text(outcomes).count("\n") == len(names)
    assert draw_comparison(outcomes, OBJECTIVES).startswith(b"\x89PNG")
