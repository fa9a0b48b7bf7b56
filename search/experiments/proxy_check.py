"""Proxy check: do scores rank candidates as training them alone does?

Candidates are drawn in strata and in matched pairs. Each is trained alone, from scratch or, beside
a start, as finalists are, some of them with several seeds. The scores that the search goes by are
compared with these accuracies.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ...spaces import Candidate
from ...spaces.errors import FailedError
from ..console import progress
from ..executors import open_executor
from ..loop.study import window
from ..pareto.objectives import MAXIMIZED
from ..run.assets import Run
from ..run.refreshing import refresh_of
from ..scoring.evaluation import Evaluation, Scorer, evaluate
from ..scoring.evaluation_log import EvaluationLog, read_evaluations
from ..scoring.finishing import Finishing
from ..scoring.forecast_errors import errors
from ..scoring.lift import lifted
from ..scoring.score_queue import Scores
from ..scoring.scratch import ShortTraining
from ..store.atomic_files import write_atomic, write_json
from ..store.run_folder import RunPaths
from ..training.accuracy import SCORES, effective_images
from .ablation import cut_scorers
from .proxy_figures import proxy_figures
from .proxy_plot import scatter
from .stratified_pairs import stratified_pairs

SHORT_SEED = 1000  # no seed of the full trainings, or both would start alike
FEWEST = 4  # candidates whose order says anything
COMPARED = ("kendall_tau", "spearman", "advantage", "top_", "trusted")


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains one candidate alone, once for each seed; is sent to workers.

    Attributes:
        training: of one candidate, with some seed.
        seeds: by key of the candidate.
        goal: name of the accuracy that is measured.
    """

    training: ShortTraining | Finishing
    seeds: Mapping[str, range]
    goal: str = "accuracy"

    def __call__(self, candidate: Candidate, costs: Mapping[str, float]) -> Evaluation:
        """Train a candidate; metrics are its accuracies by seed, "seed_0" and so on."""
        return evaluate(self._accuracies, candidate, costs)

    def _accuracies(self, candidate: Candidate) -> dict[str, float]:
        seeds = self.seeds[candidate.key]
        return {f"seed_{n}": self.training.with_seed(n)(candidate)[self.goal] for n in seeds}


def check_proxy(run: Run, n: int) -> dict[str, Any]:
    """Train `n` candidates alone, compare, and write `proxy.json` and `proxy.png`.

    Trainings that are already in the run folder are not repeated.

    Args:
        run: an opened run; teacher and supernet, if it has one, are trained if they are not yet.
        n: number of candidates, at least 4.

    Returns:
        The contents of `proxy.json`.

    Raises:
        SpaceError: the space has fewer candidates.
        FailedError: too few trainings succeeded.
    """
    config, folder, cut = run.config, run.folder, bool(run.config.start.model)
    pairs = stratified_pairs(run.space, -(-n // 2), config.search.seed)
    candidates = [c for pair in pairs for c in (pair.first, pair.second)][:n]
    every = config.proxy.repeat_every
    seeds = {c.key: range(1 if i % every else config.proxy.seeds) for i, c in enumerate(candidates)}
    validation = run.data.split("validation")
    goal, images = config.search.goal, effective_images(validation.labels, config.search.goal)
    trainer = Trainer(run.alone(validation), seeds, goal)
    log = EvaluationLog(log_of(folder, goal, run.tuning.recipe if cut else ""), again=True)
    with open_executor(config.executor) as executor:
        train_all(candidates, Scores(trainer, executor, log), trainer, window(config))
    candidates = succeeded(candidates, log)
    search = run.data.split("search")
    scored, score_ms = score_all(candidates, run.ensure_scorers()[1.0], "scoring")
    runs = [list(log[c.key].metrics.values()) for c in candidates]
    figures: dict[str, Any] = {
        "space": run.space.name,
        "data": run.data.name,
        "goal": goal,
        "n": len(candidates),
        "trainings": sum(map(len, runs)),
        "recipe": (config.finish if cut else config.proxy).model_dump(mode="json"),
        "images": {"train": len(run.data.train_labels), "search": len(search)}
        | {"validation": len(validation)},
        "score_ms": score_ms,
    }

    def all_figures(scores: Sequence[float]) -> dict[str, Any]:
        return proxy_figures(candidates, scores, runs, pairs, round(images), config.search.seed)

    figures |= all_figures([score[goal] for score in scored])
    if run.ensure_forecast():
        truth = [fmean(accuracies) for accuracies in runs]
        evaluations, _ = read_evaluations(folder.evaluations)
        refresh = refresh_of(folder, [e for e in evaluations if e.status == "complete"])
        told = [lifted(metrics, refresh.lifts) for metrics in scored]
        figures["forecast"] = errors(told, truth, goal) | {"refreshed_by": refresh.models}
    figures |= _others(run, candidates, figures, all_figures)
    write_json(folder.proxy, figures)
    write_atomic(folder.proxy_picture, scatter(figures))
    return figures


def succeeded(candidates: Sequence[Candidate], log: EvaluationLog) -> list[Candidate]:
    """The candidates that could be trained.

    Raises:
        FailedError: they are too few.
    """
    complete = [c for c in candidates if log[c.key].status == "complete"]
    if len(complete) < FEWEST:
        reasons = dict.fromkeys(log[c.key].reason for c in candidates if log[c.key].reason)
        raise FailedError(
            f"proxy: {len(complete)} of {len(candidates)} trainings succeeded, {FEWEST} are "
            f"needed; the others failed: {'; '.join(reasons)}"
        )
    return complete


def log_of(paths: RunPaths, goal: str, recipe: str) -> Path:
    """Log of the trainings; what may change beside it is in its name.

    Args:
        paths: of the run.
        goal: name of the accuracy that is measured.
        recipe: of the trainings beside a start; empty where a run folder holds only one.
    """
    path = paths.proxy_trainings
    if goal != MAXIMIZED[0]:
        path = path.with_stem(f"{path.stem}-{goal}")
    if not recipe:
        return path
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    return path.with_stem(f"{path.stem}-{digest[:8]}")


def _others(
    run: Run,
    candidates: Sequence[Candidate],
    figures: Mapping[str, Any],
    all_figures: Callable[[Sequence[float]], Mapping[str, Any]],
) -> dict[str, Any]:
    """Figures about scores that the search does not go by, with their time, by name.

    "mean" is the accuracy on the search split. Of weights cut from a start "recovered" is the
    share of what finishing adds to that of raw slices, as measured on the validation split.
    """
    goal = figures["goal"]
    found: dict[str, Any] = {"short": {}}

    def row(scorer: Scorer, name: str, score: str, sign: int = 1) -> dict[str, Any]:
        scored, ms = score_all(candidates, scorer, name)
        about = all_figures([sign * s[score] for s in scored])
        chosen = {k: value for k, value in about.items() if k.startswith(COMPARED)}
        return {"score_ms": ms, "mean": fmean(s[goal] for s in scored)} | chosen

    for name, scorer in cut_scorers(run).items():
        about = found[name] = row(scorer, f"{name} weights", "divergence", -1)
        raw, finished = found["raw"]["mean"], fmean(c["accuracy"] for c in figures["candidates"])
        about["recovered"] = (about["mean"] - raw) / (finished - raw) if finished > raw else None
    if run.config.start.model:
        return found
    if run.ensure_forecast() and run.config.has_supernet:
        found["inherited"] = row(run.evaluator(), "inherited weights", goal)
    for steps in run.config.proxy.short_steps:
        short = run.short(steps).with_seed(SHORT_SEED)
        found["short"][str(steps)] = row(short, f"{steps} steps each", SCORES[goal])
    return found


def train_all(
    candidates: Sequence[Candidate], scores: Scores, trainer: Trainer, ahead: int
) -> None:
    """Train the candidates that are not in the log; each is appended as it ends.

    Args:
        candidates: to train.
        scores: queue that trains them, and its log.
        trainer: has the seeds of each.
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
    """Score candidates by a proxy; the scores, and median milliseconds of one."""
    scores: list[Mapping[str, float]] = []
    seconds: list[float] = []
    with progress(len(candidates), label, "candidate") as bar:
        for candidate in candidates:
            start = time.perf_counter()
            scores.append(evaluator(candidate))
            seconds.append(time.perf_counter() - start)
            bar.update()
    return scores, 1e3 * float(np.median(seconds))
