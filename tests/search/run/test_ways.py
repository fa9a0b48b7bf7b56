"""Rounding in training is delivered only where it is worth it."""

from pathlib import Path

import pytest
import torch

from vitpareto.search.config import FinishConfig
from vitpareto.search.delivery.deliver import deliver
from vitpareto.search.delivery.manifest import read_manifest
from vitpareto.search.run.ways import choose, simplest, trained_as
from vitpareto.search.training.finalists import train_finalists
from vitpareto.search.training.finetune import Finalist, FineTuning
from vitpareto.search.training.teacher import make_lessons
from vitpareto.spaces import Policy
from vitpareto.spaces.networks import Network

from ...shared import everywhere
from ..made import Made

WAYS = ("ptq", "qat", "direct")


def right(count: int, of: int = 200) -> torch.Tensor:
    return torch.arange(of) < count


def test_a_later_way_must_beat_chance() -> None:
    assert simplest({"ptq": right(150), "qat": right(152)}) == "ptq", "two images are chance"
    assert simplest({"ptq": right(150), "qat": right(160)}) == "qat", "ten of ten are not"
    noisy = right(150).roll(60)  # wrong and right on others, and no more often
    assert simplest({"ptq": noisy, "qat": right(155)}) == "ptq"
    assert simplest({"ptq": right(100), "qat": right(150), "direct": right(151)}) == "qat"
    assert simplest({"ptq": right(100), "qat": right(99)}) == "ptq"


def test_what_is_trained(made: Made) -> None:
    low = everywhere(made.candidate, Policy(4, 8, sparsity=0.5))
    found = trained_as(low, WAYS)
    assert found["qat"] == found["direct"] == low
    assert found["ptq"] == everywhere(made.candidate, Policy(sparsity=0.5))
    half = everywhere(made.candidate, Policy(16))
    assert trained_as(half, WAYS) == {"direct": half}, "nothing is rounded to integers"
    with pytest.raises(ValueError, match="different ways, got ptq, ptq"):
        FinishConfig(ways=("ptq", "ptq"))
    assert FinishConfig(ways=("direct", "ptq")).ways == ("ptq", "direct")


@pytest.mark.slow
def test_each_way_is_trained_judged_and_told(made: Made, tmp_path: Path) -> None:
    """Eight bits need no training with rounding; two bits do."""
    config = FinishConfig(epochs=2, batch_size=128, lr=1e-3)
    lessons = make_lessons(made.data, made.network, 1)
    tuning = FineTuning(lessons, made.data.split("validation"), config, 0)
    delivered: dict[int, str] = {}
    for bits in (8, 2):
        candidate = everywhere(made.candidate, Policy(bits, 8))
        finalists: dict[str, Finalist] = {}
        for way, each in trained_as(candidate, WAYS).items():
            network = Network(each.architecture)
            network.load_state_dict(made.network.state_dict())
            kept = tmp_path / f"{bits}.{way}.safetensors"
            finalists[way] = Finalist(each, network, kept, direct=way == "direct")
        assert len(train_finalists([*finalists.values()], tuning)) == len(WAYS)
        trained = {way: (f.network, tuning.seconds(f)) for way, f in finalists.items()}
        chosen = choose(candidate, trained, made.terms())
        (best,) = (way for way, trial in chosen.trials.items() if trial.delivered)
        assert chosen.network is finalists[best].network
        assert all(trial.seconds > 0 for trial in chosen.trials.values())
        delivered[bits] = best
    assert delivered[8] == "ptq" and delivered[2] != "ptq"
    shares = {way: trial.accuracy for way, trial in chosen.trials.items()}
    assert shares[delivered[2]] > shares["ptq"]

    evaluation = made.evaluation(candidate)
    modest = evaluation.metrics | {"accuracy_low": 0.2}
    evaluation = type(evaluation)(candidate, "complete", modest)
    folder = deliver(tmp_path, evaluation, chosen.network, made.terms(), ways=chosen.trials)
    assert read_manifest(folder).ways == chosen.trials
