"""Proxy check: do scores rank candidates as training them alone does?

Candidates are drawn in strata and in matched pairs, each is trained alone, some of them with
three seeds, and what the search would have said of them is held against what came out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from ...cost_models import workload
from ...spaces import Candidate
from ...spaces.errors import RunError
from ..config import TrainConfig
from ..console import progress
from ..data.dataset import Split
from ..executors import open_executor
from ..loop.study import window
from ..run.assets import Run
from ..scoring.evaluation import Evaluation
from ..scoring.evaluation_log import EvaluationLog
from ..scoring.score_queue import Scores
from ..scoring.scratch import ShortTraining
from ..store.atomic_files import write_atomic, write_json
from ..training.accuracy import wilson
from ..training.teacher import Lessons
from .proxy_plot import scatter
from .rank_statistics import (
    Estimate,
    Vector,
    advantage,
    bootstrap,
    correlation,
    kendall_tau,
    noise_ceiling,
    ridge,
    seed_noise,
    sign_agreement,
    spearman,
    top_k_regret,
    within_terciles,
)
from .stratified_pairs import Pair, stratified_pairs

REGRET = (1, 5)  # candidates that the proxy is allowed to name
SHORT_SEED = 1000  # no seed of the trainings, which would begin alike
COMPARED = ("kendall_tau", "spearman", "advantage", "top_", "trusted")
TAU, OF_CEILING, ADVANTAGE = 0.80, 0.90, 0.05  # what a proxy must reach to be trusted


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains one candidate alone, once a seed; travels to workers.

    Attributes:
        lessons: what it learns from.
        validation: images that judge.
        config: the recipe.
        seeds: by key of the candidate.
    """

    lessons: Lessons
    validation: Split
    config: TrainConfig
    seeds: Mapping[str, range]

    def __call__(self, candidate: Candidate, costs: Mapping[str, float]) -> Evaluation:
        """An evaluation whose metrics are the accuracies by seed, "seed_0" and on."""
        start = time.perf_counter()
        found: dict[str, float] = {}
        steps = self.lessons.steps(self.config.batch_size, self.config.epochs)
        for seed in self.seeds[candidate.key]:
            score = ShortTraining(self.lessons, self.validation, self.config, steps, seed)
            found[f"seed_{seed}"] = score(candidate)["accuracy"]
        return Evaluation(candidate, "complete", found, time.perf_counter() - start)


def check_proxy(run: Run, n: int) -> dict[str, Any]:
    """Train `n` candidates alone, compare, and write `proxy.json` and `proxy.png`.

    Trainings that are already in the run folder are not repeated.

    Args:
        run: an opened run; teacher and supernet are trained if they are not yet.
        n: candidates, at least 4.

    Returns:
        The contents of `proxy.json`.

    Raises:
        SpaceError: the space has fewer candidates.
        RunError: the loss of a training is no number.
    """
    config, folder = run.config, run.folder
    pairs = stratified_pairs(run.space, -(-n // 2), config.search.seed)
    candidates = [c for pair in pairs for c in (pair.first, pair.second)][:n]
    every = config.proxy.repeat_every
    seeds = {c.key: range(1 if i % every else config.proxy.seeds) for i, c in enumerate(candidates)}
    lessons, validation = run.ensure_lessons(), run.data.split("validation")
    trainer = Trainer(lessons, validation, config.proxy, seeds)
    log = EvaluationLog(folder.proxy_trainings)
    with open_executor(config.executor) as executor:
        train_all(candidates, Scores(trainer, executor, log), trainer, window(config))
    candidates = [c for c in candidates if log[c.key].status == "complete"]
    search = run.data.split("search")
    scored, score_ms = score_all(candidates, run.ensure_judges()[1.0], "scoring")
    runs = [list(log[c.key].metrics.values()) for c in candidates]
    found: dict[str, Any] = {
        "space": run.space.name,
        "data": run.data.name,
        "n": len(candidates),
        "trainings": sum(map(len, runs)),
        "recipe": config.proxy.model_dump(mode="json"),
        "images": {"train": len(run.data.train_labels), "search": len(search)}
        | {"validation": len(validation)},
        "score_ms": score_ms,
    }

    def judged(scores: Sequence[float]) -> dict[str, Any]:
        return judge(candidates, scores, runs, pairs, len(validation), config.search.seed)

    def compared(scores: Sequence[float]) -> dict[str, Any]:
        return {name: value for name, value in judged(scores).items() if name.startswith(COMPARED)}

    found |= judged([score["accuracy"] for score in scored])
    if run.ensure_forecast():
        scored, ms = score_all(candidates, run.evaluator(), "inherited weights")
        about = compared([score["accuracy"] for score in scored])
        found["inherited"] = {"score_ms": ms} | about
    found["short"] = {}
    for steps in config.proxy.short_steps:
        short = ShortTraining(lessons, search, config.proxy, steps, SHORT_SEED)
        scored, ms = score_all(candidates, short, f"{steps} steps each")
        about = compared([score["score"] for score in scored])
        found["short"][str(steps)] = {"score_ms": ms} | about
    write_atomic(folder.proxy_picture, scatter(found))
    write_json(folder.proxy, found)
    return found


def train_all(
    candidates: Sequence[Candidate], scores: Scores, trainer: Trainer, ahead: int
) -> None:
    """Train the candidates that are not in the log; each is appended as it ends.

    Args:
        candidates: to train.
        scores: by whom, and the log.
        trainer: knows how often each is trained.
        ahead: trainings under way at once.
    """
    total = sum(len(trainer.seeds[candidate.key]) for candidate in candidates)
    with progress(total, "trained alone", "training") as bar:

        def finish(candidate: Candidate) -> None:
            scores.result(candidate.key)
            bar.update(len(trainer.seeds[candidate.key]))

        for i, candidate in enumerate(candidates):
            scores.submit(candidate, {})
            if i + 1 >= ahead:
                finish(candidates[i + 1 - ahead])
        for candidate in candidates[max(0, len(candidates) + 1 - ahead) :]:
            finish(candidate)


def score_all(
    candidates: Sequence[Candidate],
    evaluator: Callable[[Candidate], Mapping[str, float]],
    label: str,
) -> tuple[list[Mapping[str, float]], float]:
    """What a proxy says of each, and the median milliseconds of one."""
    found: list[Mapping[str, float]] = []
    seconds: list[float] = []
    with progress(len(candidates), label, "candidate") as bar:
        for candidate in candidates:
            start = time.perf_counter()
            found.append(evaluator(candidate))
            seconds.append(time.perf_counter() - start)
            bar.update()
    return found, 1e3 * float(np.median(seconds))


def judge(
    candidates: Sequence[Candidate],
    scores: Sequence[float],
    runs: Sequence[Sequence[float]],
    pairs: Sequence[Pair],
    images: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure about a proxy, as JSON; a figure `x` has its 95% interval beside it.

    Args:
        candidates: that were trained alone.
        scores: what the proxy says of each.
        runs: accuracies of each by seed.
        pairs: which of the candidates differ along one axis alone.
        images: on which accuracies were measured.
        seed: of the resamples.

    Raises:
        RunError: scores or accuracies do not differ, so that there is nothing to rank.
    """
    proxy, truth = np.array(scores), np.array([float(np.mean(run)) for run in runs])
    if len(set(proxy)) == 1 or len(set(truth)) == 1:
        which = "trained alone" if len(set(truth)) == 1 else "scored"
        raise RunError(f"proxy: all {len(truth)} candidates are equally accurate when {which}")
    facts = features(candidates)
    macs = facts[:, FEATURES.index("macs")]
    baselines = {name: facts[:, FEATURES.index(name)] for name in ("params", "macs", "depth")}
    baselines["ridge"] = ridge(np.log(facts), truth, seed)
    taus = {
        name: correlation(kendall_tau, values, truth, seed) for name, values in baselines.items()
    }
    best = max(taus, key=lambda name: np.nan_to_num(taus[name].value, nan=-1.0))
    noise = seed_noise(runs)
    sd = float(np.sqrt(noise * np.mean(truth * (1 - truth))))
    ceiling = noise_ceiling(runs, images, seed)
    tau = correlation(kendall_tau, proxy, truth, seed)
    ahead = advantage(proxy, baselines[best], truth, seed)
    regret = {
        f"top_{k}_regret": bootstrap(
            lambda i, k=k: top_k_regret(proxy[i], truth[i], k), len(truth), seed
        )
        for k in REGRET
    }
    within = bootstrap(lambda i: within_terciles(proxy[i], truth[i], macs[i]), len(truth), seed)
    return {
        "trusted": trusted(tau, ceiling, ahead),
        **_flat("kendall_tau", tau),
        **_flat("spearman", correlation(spearman, proxy, truth, seed)),
        **{k: v for name, value in regret.items() for k, v in _flat(name, value).items()},
        **_flat("within_tercile_tau", within),
        **_flat("noise_ceiling", ceiling),
        "seed_sd": sd,
        "accuracy_sd": float(truth.std(ddof=1)),
        "baselines": {name: _flat("kendall_tau", value) for name, value in taus.items()},
        "best_baseline": best,
        **_flat("advantage", ahead),
        "sign_agreement": agreement(candidates, proxy, truth, pairs, sd),
        "candidates": [
            {"key": candidate.key, "score": score, "accuracy": found, "by_seed": list(run)}
            | dict(zip(FEATURES, row, strict=True))
            for candidate, score, found, run, row in zip(
                candidates, scores, truth.tolist(), runs, facts.tolist(), strict=True
            )
        ],
    }


def trusted(tau: Estimate, ceiling: Estimate, ahead: Estimate) -> bool:
    """Whether a proxy ranks well enough, and better than what costs nothing."""
    well = tau.value >= TAU or tau.value >= OF_CEILING * ceiling.value
    return bool(well and ahead.value >= ADVANTAGE and ahead.low > 0)


FEATURES = ("params", "macs", "depth", "width", "tokens", "weight_bits")


def features(candidates: Sequence[Candidate]) -> Vector:
    """What is known of a candidate without any weights: (N, 6), see `FEATURES`."""
    rows: list[tuple[float, ...]] = []
    for candidate in candidates:
        work, a = workload(candidate), candidate.architecture
        policies = [p for s in candidate.compression.stages for p in (*s.mixer, *s.mlp)]
        depth, width = len(list(a.blocks())), mean(stage.width for stage in a.stages)
        bits = mean(policy.weight_bits for policy in policies)
        rows.append((work.params, work.macs, depth, width, a.grid**2, bits))
    return np.array(rows, dtype=np.float64)


def agreement(
    candidates: Sequence[Candidate],
    proxy: Vector,
    truth: Vector,
    pairs: Sequence[Pair],
    noise: float,
) -> dict[str, dict[str, float]]:
    """Matched pairs of which the proxy names the better one, by axis and of all."""
    place = {candidate.key: i for i, candidate in enumerate(candidates)}
    whole = [pair for pair in pairs if {pair.first.key, pair.second.key} <= place.keys()]
    axes = sorted({pair.axis for pair in whole})
    found: dict[str, dict[str, float]] = {}
    for axis in ("all", *axes):
        members = [pair for pair in whole if axis in ("all", pair.axis)]
        first, second = ([place[getattr(p, m).key] for p in members] for m in ("first", "second"))
        agree, counted = sign_agreement(
            proxy[second] - proxy[first], truth[second] - truth[first], noise
        )
        found[axis] = {"agree": agree, "pairs": counted}
        if counted:
            low, high = wilson(agree, counted)
            found[axis] |= {"share": agree / counted, "share_low": low, "share_high": high}
    return found


def _flat(name: str, estimate: Estimate) -> dict[str, float | None]:
    """An estimate under its name; JSON has no NaN."""
    parts = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
    return {f"{name}{end}": None if np.isnan(value) else value for end, value in parts.items()}
