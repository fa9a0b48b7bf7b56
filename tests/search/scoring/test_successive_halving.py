from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from vitpareto.search.data.dataset import Split
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.loop.optuna_sampler import Sampler
from vitpareto.search.loop.study import Study, Until
from vitpareto.search.loop.task import Task
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.search.scoring.successive_halving import BRACKET, Halving, part
from vitpareto.spaces import Candidate

from ..table import OBJECTIVES, Table

SHARES = (1 / 9, 1 / 3, 1.0)


class Counting:
    """Scores from a table, the more noisily the fewer images, and counts."""

    def __init__(self, table: Table, share: float) -> None:
        self.table, self.share, self.calls = table, share, Counter[str]()

    def __call__(self, candidate: Candidate, costs: Mapping[str, float]) -> Evaluation:
        self.calls[candidate.key] += 1
        noise = np.random.default_rng(int(candidate.key, 16)).standard_normal()
        metrics = dict(self.table.rows[candidate.key].metrics)
        metrics["accuracy"] += 0.01 * noise * (1 / self.share - 1) ** 0.5
        status = "failed" if int(candidate.key, 16) % 17 == 0 else "complete"
        return Evaluation(candidate, status, metrics, reason="unlucky")


def halving(table: Table, folder: Path) -> tuple[Halving, list[Counting]]:
    scorers = [Counting(table, share) for share in SHARES]
    rungs = [
        Scores(scorer, LocalExecutor(), EvaluationLog(folder / f"{scorer.share:.2f}"))
        for scorer in scorers
    ]
    return Halving(rungs, OBJECTIVES), scorers


@pytest.mark.parametrize("name", ["random", "nsga2", "surrogate"])
def test_every_sampler_scores_few_in_full(table: Table, tmp_path: Path, name: str) -> None:
    task = Task(table.space, OBJECTIVES, table.costs, 0, 3 * BRACKET)
    scoring, scorers = halving(table, tmp_path)
    study = Study(task, Sampler(name, task), scoring, BRACKET)
    study.run(Until(task.trials))
    few, more, whole = (len(scorer.calls) for scorer in scorers)
    assert few == study.scored
    assert whole <= more <= few
    # 27, 9, 3 in each bracket, less what was asked before or failed.
    assert more == pytest.approx(few / 3, abs=5)
    assert whole == pytest.approx(few / 9, abs=4)
    assert all(max(scorer.calls.values()) == 1 for scorer in scorers)
    assert study.archive.volume > 0
    assert {e.key for e in scoring.log.all() if scoring.in_full(e.key)} <= scorers[-1].calls.keys()
    # Resumed, it comes to the same and scores nothing again.
    again, others = halving(table, tmp_path)
    resumed = Study(task, Sampler(name, task), again, BRACKET)
    resumed.run(Until(task.trials))
    assert [e.key for e in again.log.all()] == [e.key for e in scoring.log.all()]
    assert resumed.archive.volume == study.archive.volume
    assert not any(scorer.calls for scorer in others)


def test_the_best_by_fronts_go_on(table: Table, tmp_path: Path) -> None:
    scoring, scorers = halving(table, tmp_path)
    candidates = list({c.key: c for c in table.space.sample(60, seed=3)}.values())[:BRACKET]
    for candidate, known in zip(candidates, table.costs(candidates), strict=True):
        scoring.submit(candidate, known)
    found = {c.key: scoring.result(c.key) for c in candidates}
    promoted = set(scorers[1].calls)
    assert len(promoted) == 9
    first = EvaluationLog(tmp_path / "0.11")
    left = [first[c.key] for c in candidates if c.key not in promoted]
    kept = [first[key] for key in promoted]
    for worse in left:  # nobody goes on in the place of one that dominates it
        if worse.status == "complete":
            assert not any(_dominates(worse, better) for better in kept)
    for key, evaluation in found.items():
        highest = [s for s in scorers if key in s.calls][-1]
        assert evaluation.metrics == highest(table.rows[key].candidate, {}).metrics


def _dominates(a: Evaluation, b: Evaluation) -> bool:
    return (
        a.metrics["accuracy"] > b.metrics["accuracy"]
        and a.metrics["latency_ms"] < b.metrics["latency_ms"]
    )


def test_parts_are_nested() -> None:
    split = Split(torch.arange(90.0).view(90, 1, 1, 1), torch.arange(90))
    previous = set[int]()
    for share in (0.1, 0.4, 1.0):
        found = part(split, share)
        assert len(found) == round(90 * share)
        assert found.images.flatten().tolist() == found.labels.tolist()
        now = set(found.labels.tolist())
        assert previous <= now
        previous = now
