"""The teacher: what training it leaves behind, and what it says of every view."""

import math
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from vitpareto.search.config import TeacherConfig
from vitpareto.search.data.augment import KEPT_MB, Kept, Norm, augmented, draws
from vitpareto.search.data.dataset import Data
from vitpareto.search.training import checkpoint, pace
from vitpareto.search.training.checkpoint import Checkpoint
from vitpareto.search.training.optimizer import Optimizer
from vitpareto.search.training.pace import Limit
from vitpareto.search.training.parts import Parts
from vitpareto.search.training.teacher import BATCH, make_lessons, predict, teach, train_teacher
from vitpareto.spaces.errors import RunError


def test_training_leaves_seeds_and_threads_as_they_were(data: Data) -> None:
    before = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    teacher = train_teacher(data, TeacherConfig(epochs=1, batch_size=256), 3)
    lessons = make_lessons(data, teacher, 2)
    assert before[0].equal(torch.get_rng_state())
    assert before[1:] == (random.getstate(), torch.get_num_threads())
    images = next(lessons.views.batches(1, [torch.arange(64)]))
    assert torch.allclose(lessons.teacher[1, :64], predict(teacher, images), atol=0.02)
    assert all(value.is_contiguous() for value in teacher.state_dict().values())  # can be saved


def test_a_gradient_that_is_no_number_is_one_line(data: Data) -> None:
    class Steep(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bias.sqrt().expand(len(x), 10)

    network, images = Steep(), data.split("train").some(8)
    optimizer = Optimizer(network.named_parameters(), TeacherConfig(), 1)
    with pytest.raises(RunError, match=r"teacher: the gradient is .*; try a smaller lr"):
        teach(network, optimizer, Parts("teacher"), images.images, images.labels)


@pytest.mark.parametrize("every_s", [-1.0, 1e9], ids=["kept after each batch", "kept at the end"])
def test_answers_that_were_stopped_go_on(
    every_s: float, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", every_s)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    views, images = 3, len(data.train_labels)
    seen: list[int] = []
    most = images + 1.5 * BATCH  # in the second view

    class Linear(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            seen.append(len(input))
            if sum(seen) > most:
                signal.raise_signal(signal.SIGINT)
            return super().forward(input.flatten(1))

    teacher = Linear(data.split("train").images[0].numel(), 10)
    kept = Checkpoint(tmp_path / "teacher.checkpoint", "about")
    with pytest.raises(KeyboardInterrupt):
        make_lessons(data, teacher, views, kept)
    stopped, most = sum(seen), math.inf
    assert images < stopped < views * images
    found = make_lessons(data, teacher, views, kept).teacher
    assert sum(seen) == views * images, "nothing is answered twice"
    assert found.equal(make_lessons(data, teacher, views).teacher)
    assert make_lessons(data, teacher, 1, kept).teacher.equal(found[:1])  # as of another length
    with pytest.raises(RunError, match="of another"):
        make_lessons(data, teacher, views, Checkpoint(kept.path, "another start"))


def test_a_teacher_ends_in_time(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LOOK_S", 0.2)
    begun = time.monotonic()
    teacher = train_teacher(
        data, TeacherConfig(epochs=500), 3, limit=Limit(time.monotonic() + 4, 500)
    )
    assert 2.5 < time.monotonic() - begun < 20, "500 passes take minutes"
    assert predict(teacher, data.split("search").images).isfinite().all()


@pytest.mark.parametrize("megabytes", [KEPT_MB, 0], ids=["kept", "made again"])
def test_views_are_the_same_kept_or_not(megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitpareto.search.data.augment.KEPT_MB", megabytes)
    pixels = torch.arange(100 * 64).mul(7).remainder(256).byte().view(100, 1, 8, 8)
    norm = Norm((0.5,), (0.25,))
    images = norm(pixels)
    views, chunks = Kept(pixels, norm), [torch.tensor([3, 99]), torch.tensor([0])]
    for _ in range(2):
        for index, found in zip(chunks, views.batches(5, chunks), strict=True):
            assert found.equal(augmented(images[index], draws(100, 5)[:, index]))
