"""The search loop: overhead, samplers on a table that is known completely, and Ray's throughput.

`python -m tests.bench loop` prints one table; a quiet machine needs about ten minutes.
"""

import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from tests.search.table import OBJECTIVES, Table, losses, make_table, recorded
from vitpareto.search.executors import LocalExecutor, RayExecutor
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.study import Study, Until
from vitpareto.search.loop.task import Task
from vitpareto.search.pareto.hypervolume import Archive, Box
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog
from vitpareto.search.scoring.predicted_costs import Counts
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.search.scoring.successive_halving import BRACKET, Halving
from vitpareto.spaces import Candidate, SearchSpace

from ._row import HEADER, row

SEEDS = 10
GOAL = 0.99  # of the true hypervolume
LIMITS = {"tpe": 1500, "gp": 120, "nsga3": 3000, "nsga2": 3000, "surrogate": 500, "random": 20000}
SHARES = (1 / 9, 1 / 3, 1.0)
IMAGES = 5000  # of a search split on which candidates are scored


def main() -> None:
    torch.set_num_threads(1)
    print(HEADER)
    for trials, bar in ((1000, "3 ms"), (10_000, "5 ms")):
        ms, grown_mb = overhead(trials)
        row(f"overhead of a trial, nsga2, journal, {trials:,} trials", f"{ms:.2f} ms", bar)
        row(f"memory growth, {trials:,} trials", f"{grown_mb:.0f} MB", "200 MB")
    for trials in (120, 1000):
        ms, _ = overhead(trials, "surrogate")
        row(f"the same with the surrogate, {trials:,} trials", f"{ms:.2f} ms", "")
    samplers(recorded())
    fidelity(make_table(4))
    one, sixteen = throughput(1), throughput(16)
    row("ray: 16 workers against 16 times one, 100 ms sleeps", f"{sixteen / one / 16:.2f}", "0.90")


def overhead(trials: int, name: str = "nsga2") -> tuple[float, float]:
    """Processor time of a trial in ms without scoring, and growth of memory in MB."""
    space = SearchSpace.from_yaml("digits")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        macs = Macs()
        task = Task(space, [Objective("accuracy"), Objective("macs", 3e7)], macs, 0, trials)
        log = EvaluationLog(Path(folder) / "evaluations.jsonl")
        sampler = Sampler(name, task, Path(folder) / "study.journal")
        study = Study(task, sampler, Scores(by_key, LocalExecutor(), log))
        start = time.process_time()
        study.run(Until(trials))
        seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds / trials * 1e3, (after - before) / 1e3


class Macs:
    """Costs that need no device."""

    def __init__(self) -> None:
        self._counts = Counts()

    def __call__(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        return [{"macs": macs} for macs, _ in self._counts(candidates).tolist()]


def by_key(candidate: Candidate, costs: Mapping[str, float]) -> Evaluation:
    accuracy = int(candidate.key[:6], 16) / 16**6
    return Evaluation(candidate, "complete", {"accuracy": accuracy, **costs})


def samplers(table: Table) -> None:
    """Scored candidates that each sampler needs for 99% of the true hypervolume.

    TPE and GP have three seeds, GP 120 candidates at most: they are slow.
    """
    needed = {name: scored_to_goal(table, name) for name in LIMITS}
    for name, count in needed.items():
        bar = {"surrogate": f"{min(needed['nsga2'] / 4, needed['random'] / 10):.0f}"}.get(name, "")
        more = "> " if count >= LIMITS[name] else ""
        row(f"{name}: scored to {GOAL:.0%} of the hypervolume", f"{more}{count:.0f}", bar)


def scored_to_goal(table: Table, name: str) -> float:
    """Median number of scored candidates over seeds."""
    counts: list[int] = []
    total = true_volume(table)
    for seed in range(SEEDS if name not in ("tpe", "gp") else 3):
        task = Task(table.space, OBJECTIVES, table.costs, seed, 1000)
        sampler, archive = Sampler(name, task), Archive(true_box(table))
        scored = set[str]()
        for _ in range(5 * LIMITS[name]):
            proposal = sampler.ask()
            if proposal is None:
                break
            key = table.space.candidate(proposal.assignment).key
            metrics = table.rows[key].metrics
            sampler.tell(proposal, key, metrics, {})
            scored.add(key)
            archive.add(losses(metrics))
            if archive.volume >= GOAL * total or len(scored) == LIMITS[name]:
                break
        counts.append(len(scored))
    return median(counts)


def fidelity(table: Table) -> None:
    """Whole evaluations' worth of images to the same goal, with and without successive halving."""
    for name in ("random", "nsga2", "surrogate"):
        for shares in ((1.0,), SHARES):
            spent = [images_to_goal(table, name, shares, seed) for seed in range(SEEDS)]
            how = "on parts of" if len(shares) > 1 else "on all"
            row(
                f"{name}, {how} {IMAGES} images: spent, in whole evaluations",
                f"{median(spent):.0f}",
                "",
            )


def images_to_goal(table: Table, name: str, shares: Sequence[float], seed: int) -> float:
    """Images scored until evaluations on all images hold 99% of the true hypervolume."""
    spent = 0.0
    archive, total = Archive(true_box(table)), true_volume(table)
    reached: list[float] = []

    def scorer(share: float):
        def score(candidate: Candidate, costs: Mapping[str, float]) -> Evaluation:
            nonlocal spent
            spent += share
            metrics = dict(table.rows[candidate.key].metrics)
            if share < 1:
                rng = np.random.default_rng(int(candidate.key, 16) + seed)
                n = round(share * IMAGES)
                metrics["accuracy"] = rng.binomial(n, metrics["accuracy"]) / n
            else:
                archive.add(losses(metrics))
                if archive.volume >= GOAL * total and not reached:
                    reached.append(spent)
            return Evaluation(candidate, "complete", metrics)

        return score

    with tempfile.TemporaryDirectory() as folder:
        rungs = [
            Scores(scorer(share), LocalExecutor(), EvaluationLog(Path(folder) / f"{share:.3f}"))
            for share in shares
        ]
        scoring = Halving(rungs, OBJECTIVES) if len(rungs) > 1 else rungs[0]
        trials = 20 * LIMITS[name]
        task = Task(table.space, OBJECTIVES, table.costs, seed, 1000)
        study = Study(task, Sampler(name, task), scoring, BRACKET if len(rungs) > 1 else 1)
        for done in range(100, trials, 100):
            study.run(Until(done))
            if reached or spent > 5000:
                break
    return reached[0] if reached else spent


def true_box(table: Table) -> Box:
    return Box.of_points(np.array([losses(r.metrics) for r in table.front]))


def true_volume(table: Table) -> float:
    return true_box(table).volume(np.array([losses(r.metrics) for r in table.front]))


def throughput(workers: int) -> float:
    """Calls a second that sleep for 100 ms, once all workers are there."""
    calls = 30 * workers
    with RayExecutor(workers, threads=1) as executor:
        for future in [executor.submit(time.sleep, 1.0) for _ in range(workers)]:
            future.result()
        start = time.perf_counter()
        for future in [executor.submit(time.sleep, 0.1) for _ in range(calls)]:
            future.result()
        return calls / (time.perf_counter() - start)
