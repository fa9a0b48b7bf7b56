"""Rates: durations of the steps of a run on this machine, each timed before the run starts.

Weights are untrained, as the duration of a step does not depend on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...spaces import SearchSpace
from ...spaces.networks import Network
from ..config import RunConfig, TrainConfig
from ..data.dataset import Data
from ..data.splits import SPLITS
from ..scoring.inherited import Evaluator
from ..training.optimizer import torch_device
from ..training.sandwich import ALONE, Draw, Sandwich
from ..training.supernet import from_scratch
from ..training.teacher import Lessons, batches_in, open_teacher, predict
from .assets import VIEWS

SCORED = 4  # candidates whose scoring is timed
PROPOSE_S = 0.01  # seconds of one trial without its scoring
FEW = 64  # images on which the answers of a teacher are timed


@dataclass(frozen=True)
class Rates:
    """Durations of steps and sizes of files.

    Attributes:
        config: of the run.
        images: in all splits.
        train_images: in the train split.
        reading_s: of reading all images, about as long as looking at them took.
        start_s: of adapting the start.
        teacher_step_s: of one step of the teacher's training; 0 where it is pretrained.
        lessons_s: of the teacher's answers to all views of the train images.
        supernet_step_s: of one step of the supernet, mean over its training.
        image_s: of one image in the training of a network alone.
        trial_s: of one trial of the search.
        supernet_mb: weights of the largest network.
        teacher_mb: weights of the teacher.
        logits_mb: the teacher's answers to all views.
    """

    config: RunConfig
    images: int
    train_images: int
    reading_s: float
    start_s: float
    teacher_step_s: float
    lessons_s: float
    supernet_step_s: float
    image_s: float
    trial_s: float
    supernet_mb: float
    teacher_mb: float
    logits_mb: float

    def steps(self, training: TrainConfig) -> int:
        """Steps of a whole training."""
        return training.epochs * batches_in(self.train_images, training.batch_size)


def measure_rates(config: RunConfig, space: SearchSpace, data: Data, reading_s: float) -> Rates:
    """Time one step of each training, and a few scores.

    Args:
        config: of the run.
        space: that it searches.
        data: as large as that of the run.
        reading_s: that looking at all images took.
    """
    train, seed = len(data.train_labels), config.search.seed
    supernet = from_scratch(space, seed).to(torch_device())
    lessons = Lessons.of(data, torch.zeros(1, train, data.num_classes))
    draw = Draw(space, config.supernet, 1, seed)
    sandwich = Sandwich(supernet, lessons, config.supernet, ALONE)
    lesson = next(lessons.batches(config.supernet.batch_size, 1, seed))
    candidates = [candidate for _, candidate in draw(1)]  # after the largest was alone
    network_s = _seconds(lambda: sandwich.step(candidates, lesson)) / len(candidates)
    alone = config.supernet.alone
    inherited_s = 0.0
    if not config.examples:
        evaluator = Evaluator(supernet, data.split("search"), data.split("train"))
        drawn = space.sample(SCORED, seed)
        inherited_s = _seconds(lambda: [evaluator(c) for c in drawn]) / SCORED
    start = config.start
    from_start = bool(start.model and not config.teacher.model)
    teacher: nn.Module = (
        Network(space.largest().architecture) if from_start else open_teacher(data, config.teacher)
    ).to(torch_device())
    step_s, answer_s = _teacher_seconds(config, data, teacher)
    image_s = network_s / config.supernet.batch_size
    return Rates(
        config=config,
        images=sum(map(data.count, SPLITS)),
        train_images=train,
        reading_s=reading_s,
        start_s=(start.adapt.epochs and train) * (answer_s + start.adapt.epochs * image_s)
        if start.model
        else 0.0,
        teacher_step_s=0.0 if from_start else step_s,
        lessons_s=VIEWS * train * answer_s,
        supernet_step_s=0.0 if start.model else network_s * (alone + (1 - alone) * len(candidates)),
        image_s=image_s,
        trial_s=PROPOSE_S + inherited_s / config.executor.workers,
        supernet_mb=_weights_mb(supernet.parameters()),
        teacher_mb=_weights_mb(teacher.parameters()),
        logits_mb=VIEWS * train * data.num_classes * 4 / 1e6,
    )


def _weights_mb(parameters: Iterable[nn.Parameter]) -> float:
    return sum(4 * p.numel() for p in parameters) / 1e6


def _teacher_seconds(config: RunConfig, data: Data, teacher: nn.Module) -> tuple[float, float]:
    """Seconds of a training step of the teacher, and of its answer to one image."""
    device = torch_device()
    images = data.split("train").images[: config.teacher.batch_size].to(device)
    labels = torch.zeros(len(images), dtype=torch.long, device=device)

    def step() -> None:
        F.cross_entropy(teacher(images), labels).backward()

    few = images[:FEW]
    answer_s = _seconds(lambda: predict(teacher.eval(), few)) / len(few)
    return 0.0 if config.teacher.model else _seconds(step), answer_s


def _seconds(work: Callable[[], Any]) -> float:
    """Time the second of two runs, as the first one includes setup."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
