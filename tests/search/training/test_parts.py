"""Batches that memory does not hold are worked off in parts, to the same gradients."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from vitpareto.search.config import AdaptConfig, FinishConfig, TeacherConfig, TrainConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.start.adapt import Adaptation
from vitpareto.search.training.checkpoint import Checkpoint
from vitpareto.search.training.finetune import Finalist, FineTuning, train_alone
from vitpareto.search.training.optimizer import Optimizer
from vitpareto.search.training.parts import Parts
from vitpareto.search.training.supernet import fresh, training_steps
from vitpareto.search.training.teacher import Lessons, train_teacher
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.networks import Network

ROOM = 20  # images that a memory holds


@pytest.fixture
def tighten(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets networks only train on few images at once; no bfloat16, which rounds by the batch."""
    for module in ("training.forward", "training.teacher", "start.adapt"):
        name = f"vitpareto.search.{module}.fast_matmul"
        monkeypatch.setattr(name, lambda device: nullcontext())
    features = Network.forward_features

    def forward_features(self: Network, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) > ROOM:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return features(self, x)

    return lambda: monkeypatch.setattr(Network, "forward_features", forward_features)


def test_parts_are_halved_until_they_fit_and_stay_so(caplog: pytest.LogCaptureFixture) -> None:
    parts, tried = Parts("network"), list[int]()

    def attempt(room: int) -> int:
        tried.append(parts.count)
        if room * parts.count < 64:
            raise MemoryError
        return parts.count

    def fail() -> None:
        raise RuntimeError("another error")

    forgotten = list[int]()
    assert parts(64, lambda: attempt(10), lambda: forgotten.append(1)) == 8
    assert (tried, len(forgotten), parts.count) == ([1, 2, 4, 8], 3, 8)
    assert caplog.messages[-1].endswith("each batch of 64 is worked off in 8 parts")
    assert parts(64, lambda: attempt(10), lambda: None) == 8
    with pytest.raises(RunError, match="network: out of memory at a single image"):
        parts(64, lambda: attempt(0), lambda: None)
    with pytest.raises(RuntimeError, match="another error"):
        parts(64, fail, list)


def test_gradients_of_parts_add_up(space: SearchSpace, lessons: Lessons) -> None:
    network = fresh(space.largest(), 0).train()
    optimizer = Optimizer(network.named_parameters(), TrainConfig(), 10)
    lesson = next(lessons.batches(50, 1, 0))
    found = list[tuple[float, list[torch.Tensor]]]()
    for count in (1, 3, 50):
        parts = Parts("network")
        parts.count = count
        mean = parts.learn(
            lesson,
            lambda some: torch.nn.functional.cross_entropy(network(some.images), some.labels),
            optimizer,
        )
        found.append(
            (mean.item(), [p.grad.clone() for p in network.parameters() if p.grad is not None])
        )
        optimizer.clear()
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for a, b in zip(found[0][1], grads, strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_a_teacher_trains_in_parts(
    data: Data, tighten: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    tighten()
    trained = train_teacher(data, TeacherConfig(epochs=1, batch_size=64), 0)
    assert all(value.isfinite().all() for value in trained.state_dict().values())
    assert "teacher: out of memory" in caplog.text and "worked off in 4 parts" in caplog.text


@pytest.mark.parametrize("kind", ["short", "finalist", "start"])
def test_a_training_is_the_same_in_parts(
    kind: str,
    space: SearchSpace,
    data: Data,
    lessons: Lessons,
    tighten: Callable[[], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    candidate = Candidate.uncompressed(space.largest().architecture)

    def trained(name: str) -> Mapping[str, torch.Tensor]:
        network = fresh(candidate, 0)
        if kind == "short":
            deque(training_steps(candidate, network, lessons, TrainConfig(lr=1e-3), 0, 3), maxlen=0)
        elif kind == "finalist":
            config = FinishConfig(epochs=1, ramp=0, inherit=False)
            tuning = FineTuning(lessons, data.split("validation"), config, 0, length=3)
            train_alone(Finalist(candidate, network, tmp_path / name), tuning)
        else:
            config = AdaptConfig(epochs=1, probe_epochs=0, batch_size=256, mixup=0.4)
            Adaptation(data, config, 0)(network, Checkpoint(tmp_path / name), knows=True)
        return network.state_dict()

    whole = trained("whole")
    assert not caplog.text
    tighten()
    parts = trained("parts")
    assert "out of memory; from here on each batch of" in caplog.text
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=2e-3), name
