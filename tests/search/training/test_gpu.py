"""On a GPU the same is computed as on the CPU, and what is kept lies on the CPU."""

import pytest
import torch

from vitpareto.search.config import SupernetConfig, TrainConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.scoring.inherited import Evaluator
from vitpareto.search.scoring.scratch import ShortTraining
from vitpareto.search.training.supernet import train_supernet

USERS = ("training.forward", "training.supernet", "scoring.inherited", "training.teacher")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in USERS:
        module = f"vitpareto.search.{name}.torch_device"
        monkeypatch.setattr(module, lambda: torch.device("cpu"), raising=False)


def test_training_and_scores(space, data: Data, lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SupernetConfig(epochs=1, batch_size=256, lr=1e-3)
    candidates = space.sample(8, 0)

    def outcome() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        supernet = train_supernet(space, lessons, config, 0)
        evaluator = Evaluator(supernet, data.split("search"), data.split("train"))
        return supernet.state_dict(), torch.stack([evaluator.logits(c) for c in candidates])

    weights, logits = outcome()
    assert all(value.device.type == "cpu" for value in (*weights.values(), logits))
    on_the_cpu(monkeypatch)
    expected, answers = outcome()
    assert all(torch.allclose(weights[n], expected[n], atol=5e-3) for n in weights)
    assert (logits - answers).abs().mean() < 0.05 * answers.std()


def test_a_short_training(space, data: Data, lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    training = ShortTraining(lessons, data.split("search"), TrainConfig(batch_size=64), 40)
    found = training(space.largest())
    on_the_cpu(monkeypatch)
    assert found["accuracy"] == pytest.approx(training(space.largest())["accuracy"], abs=0.1)
