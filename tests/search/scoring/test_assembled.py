from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from vitpareto.search.data.dataset import Data
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.library.divergence import divergence
from vitpareto.search.library.parts import Library
from vitpareto.search.library.repair import assemble
from vitpareto.search.library.start import Start
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.scoring.assembled import AssembledScorer, _assembled
from vitpareto.search.scoring.evaluation import evaluate
from vitpareto.search.scoring.evaluation_log import EvaluationLog
from vitpareto.search.scoring.score_queue import Scores
from vitpareto.search.scoring.successive_halving import Halving, part
from vitpareto.search.training.forward import predict
from vitpareto.search.training.supernet import fresh
from vitpareto.spaces import SearchSpace


@pytest.fixture(scope="module")
def library(space: SearchSpace, data: Data) -> Library:
    return Library(Start.of(fresh(space.largest(), 0), data.split("train").images[:32]))


def test_the_start_is_no_distance_away(library: Library, space: SearchSpace, data: Data) -> None:
    split = data.split("search")
    found = AssembledScorer(library, split)(space.candidate({"stages.0.weight_bits": 32}))
    assert abs(found["divergence"]) < 1e-6
    network = library.start.network
    with torch.no_grad():
        right = network(split.images).argmax(1) == split.labels
    assert found["accuracy"] == pytest.approx(right.float().mean().item())
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]


def test_it_is_the_divergence_of_what_is_assembled(
    library: Library, space: SearchSpace, data: Data
) -> None:
    """Compression included; from the start, or from whom it is told."""
    split = part(data.split("search"), 0.3)
    teacher = torch.randn(len(split), 10, generator=torch.Generator().manual_seed(0))
    for candidate in space.sample(4, seed=2):
        logits = predict(candidate, assemble(library, candidate), split)
        found = AssembledScorer(library, split, teacher)(candidate)
        expected = F.kl_div(
            logits.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True
        )
        assert found["divergence"] == pytest.approx(expected.item(), rel=1e-4)
        other = AssembledScorer(library, split)(candidate)
        with torch.no_grad():
            own = library.start.network(split.images)
        assert other["divergence"] == pytest.approx(divergence(own, logits), rel=1e-4)
        assert other["accuracy"] == found["accuracy"]


def test_halving_assembles_each_candidate_once(
    library: Library, space: SearchSpace, data: Data, tmp_path: Path
) -> None:
    split = data.split("search")
    rungs = [
        Scores(
            partial(evaluate, AssembledScorer(library, part(split, share))),
            LocalExecutor(),
            EvaluationLog(tmp_path / f"{share}.jsonl"),
        )
        for share in (0.1, 0.3, 1.0)
    ]
    halving = Halving(rungs, [Objective("divergence"), Objective("params")])
    candidates = list({c.key: c for c in space.sample(9, seed=0)}.values())
    _assembled.cache_clear()
    for index, candidate in enumerate(candidates):
        halving.submit(candidate, {"params": float(index)})
    found = [halving.result(candidate.key) for candidate in candidates]
    assert [e.status for e in found] == ["complete"] * len(candidates)
    assert 1 <= sum(halving.in_full(c.key) for c in candidates) < len(candidates)
    assert _assembled.cache_info().misses == len(candidates)
