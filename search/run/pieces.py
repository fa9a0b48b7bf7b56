"""Pieces: a bit of the work of each stage, to be timed; it is the code that the run executes.

Images are noise as large as those of the run, and weights are untrained, as the duration of a step
depends on neither.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...cost_models import workload
from ...spaces import Candidate, SearchSpace
from ...spaces.networks import Network
from ..config import RunConfig, TrainConfig
from ..data.augment import augmented, draws
from ..data.dataset import Data, Split
from ..library.layers import LayerLoss
from ..library.parts import Library
from ..library.repair import assemble
from ..library.start import Start
from ..scoring.forecast import draw_examples
from ..scoring.inherited import Evaluator
from ..training.forward import predict
from ..training.losses import Lesson
from ..training.optimizer import Optimizer, torch_device
from ..training.parts import Parts
from ..training.sandwich import ALONE, Sandwich
from ..training.supernet import fresh, from_scratch, training_steps
from ..training.teacher import FASTER, Lessons, Teacher, answers, open_teacher, teach
from .timing import Work

FEW = 64  # images whose views and answers are timed
TYPICAL = 4  # candidates whose training is timed
DRAWN = 48  # random candidates, of which those are the middle of each quarter by work
PROCESS = "import vitpareto.cost_models.measure.worker"
FOREVER = 1_000_000  # steps of a training that is only timed


@dataclass
class Dial:
    """Number of images that the next step of a training gets."""

    images: int = 1

    def step(self, steps: Iterator[object]) -> Callable[[int], object]:
        """A step of a training with some images."""

        def do(images: int) -> object:
            self.images = images
            return next(steps)

        return do


@dataclass(frozen=True)
class OneBatch(Lessons):
    """Lessons that are the same batch again and again, or its beginning."""

    lesson: Any = None
    dial: Dial = field(default_factory=Dial)

    def batches(self, batch_size: int, epochs: int, seed: int, start: int = 0) -> Iterator[Lesson]:
        """As many images as are asked for, at most a batch."""
        while True:
            cut = self.cut(min(batch_size, self.dial.images))
            yield replace(cut, tokens=self.tokens(cut.images))

    def cut(self, images: int) -> Lesson:
        """Some images; where there are too few, they come again."""
        return self.lesson[torch.arange(images) % len(self.lesson.labels)]

    def steps(self, batch_size: int, epochs: int) -> int:
        """As many as anybody takes."""
        return FOREVER


def typical(space: SearchSpace, seed: int) -> list[Candidate]:
    """Candidates whose mean duration is about that of random ones: the middle of each quarter."""
    by_work = sorted(draw_examples(space, DRAWN, seed), key=lambda c: workload(c).macs)
    share = len(by_work) / TYPICAL
    return [by_work[int((i + 0.5) * share)] for i in range(min(TYPICAL, len(by_work)))]


def noise(data: Data, count: int = FEW) -> Tensor:
    """Images as large as those of the data, with gradients that are finite."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, data.in_chans, data.input_size, data.input_size, generator=generator)


def noise_lesson(data: Data, most: int) -> Lesson:
    """Noise with the first labels of the data, and no answers of a teacher."""
    labels = data.train_labels[:most]
    return Lesson(noise(data, len(labels)), labels, torch.zeros(len(labels), data.num_classes))


def teacher_of(config: RunConfig, space: SearchSpace, data: Data) -> nn.Module:
    """The teacher, untrained: a start is as large as the largest network of its space."""
    if config.start.model and not config.teacher.model:
        return Teacher(space.largest().architecture)
    return open_teacher(data, config.teacher)


def one_batch(config: RunConfig, data: Data, teacher: nn.Module) -> OneBatch:
    """A batch for every training of a run."""
    trainings = config.start.adapt, config.teacher, config.supernet, config.proxy, config.finish
    most = max(training.batch_size for training in trainings)
    lesson = noise_lesson(data, most)
    of = Lessons.of(data, torch.zeros(1, 0, 0), config.distill, teacher)
    return OneBatch(of.views, of.labels, of.teacher, of.config, of.network, lesson=lesson)


def start_process() -> None:
    """Start a process with all that measuring a network needs, and let it end."""
    subprocess.run([sys.executable, "-c", PROCESS], check=True)


def together(
    config: RunConfig, space: SearchSpace, data: Data, names: Collection[str]
) -> dict[str, Work]:
    """What the main process does, by the name of its duration."""
    teacher = teacher_of(config, space, data).to(torch_device()).to(memory_format=FASTER)
    lessons, few = one_batch(config, data, teacher), noise(data)
    works = {
        "process_s": Work(lambda _: start_process()),
        "view_s": Work(lambda n: augmented(few[:n], draws(n, 0)), FEW),
        "answer_s": Work(lambda n: answers(teacher.eval(), few[:n]), FEW),
    }
    if config.start.model:
        start = Teacher(space.largest().architecture).to(torch_device())
        works["start_step_s"] = _training(config.start.adapt, start, lessons)
    else:
        if not config.teacher.model:
            works["teacher_step_s"] = _training(config.teacher, teacher, lessons)
        if {"supernet_step_s", "largest_step_s"} & set(names):
            works |= _supernet(config, space, lessons)
    return {name: work for name, work in works.items() if name in names}


def alone(
    config: RunConfig,
    space: SearchSpace,
    data: Data,
    candidates: Sequence[Candidate],
    names: Collection[str],
) -> dict[tuple[str, str], Work]:
    """What a worker does with single candidates, by kind and key.

    The kinds are "train", which is the same in all recipes but for the images of a step, "judge"
    and "score".

    Args:
        config: of the run.
        space: of the candidates.
        data: as large as that of the run.
        candidates: what is timed.
        names: of the kinds.
    """
    lessons = one_batch(config, data, teacher_of(config, space, data))
    if weight := config.finish.layers:
        start = Network(space.largest().architecture).eval().requires_grad_(False)
        lessons = replace(lessons, layers=LayerLoss(start, (), weight))
    score = _scorer(config, space, data) if "score" in names else None
    batch = max(config.proxy.batch_size, config.finish.batch_size)
    works: dict[tuple[str, str], Work] = {}
    for candidate in candidates:
        key, network = candidate.key, fresh(candidate, config.search.seed)
        if "train" in names:
            recipe = config.finish.model_copy(update={"batch_size": batch})
            steps = training_steps(candidate, network, lessons, recipe, 0, FOREVER)
            works["train", key] = Work(lessons.dial.step(steps), batch)
        if "judge" in names:
            works["judge", key] = Work(partial(_judge, candidate, network, noise(data)), FEW)
        if score:
            works["score", key] = Work(partial(_whole, score, candidate))
    return works


def _judge(candidate: Candidate, network: Any, few: Tensor, images: int) -> object:
    """Answers to some images."""
    return predict(candidate, network, Split(few[:images], torch.zeros(images).long()))


def _whole(score: Callable[[Candidate], object], candidate: Candidate, images: int) -> object:
    """A score, which takes all its images at once."""
    return score(candidate)


def _scorer(config: RunConfig, space: SearchSpace, data: Data) -> Callable[[Candidate], object]:
    """Scores candidates as the run does."""
    if not config.start.model:
        supernet = from_scratch(space, config.search.seed).to(torch_device())
        return Evaluator(supernet, data.split("search"), data.split("train"))
    network, few = Teacher(space.largest().architecture), noise(data)
    library, search = Library(Start.of(network, few)), Split(few, torch.zeros(FEW).long())
    # Assembled each time anew, unlike in a scorer, which keeps its last candidates.
    return lambda candidate: predict(candidate, assemble(library, candidate), search)


def _training(recipe: TrainConfig, network: nn.Module, lessons: OneBatch) -> Work:
    """Trains a network on labels alone for a step."""
    optimizer, parts = Optimizer(network.named_parameters(), recipe, FOREVER), Parts("timing")

    def do(images: int) -> float:
        lesson = lessons.cut(images)
        return teach(network.train(), optimizer, parts, lesson.images, lesson.labels)

    return Work(do, recipe.batch_size)


def _supernet(config: RunConfig, space: SearchSpace, lessons: OneBatch) -> dict[str, Work]:
    """A step of each kind that the training of the supernet has, with average random candidates."""
    seed, wanted = config.search.seed, config.supernet
    supernet = from_scratch(space, seed).to(torch_device())
    optimizer = Optimizer(supernet.params.items(), wanted, FOREVER)
    sandwich = Sandwich(supernet, lessons, wanted, ALONE)
    drawn = draw_examples(space, DRAWN, seed)
    macs = [workload(candidate).macs for candidate in drawn]
    mean = sum(macs) / len(macs)
    average = min(zip(drawn, macs, strict=True), key=lambda pair: abs(pair[1] - mean))[0]
    bounds = [space.largest(), space.smallest()] if wanted.sampling == "sandwich" else []

    def steps(candidates: Sequence[Candidate]) -> Iterator[None]:
        for lesson in lessons.batches(wanted.batch_size, 1, seed):
            sandwich.step(candidates, lesson)
            optimizer.step()
            yield

    def work(candidates: Sequence[Candidate]) -> Work:
        return Work(lessons.dial.step(steps(candidates)), wanted.batch_size)

    works = {"supernet_step_s": work([*bounds, *[average] * wanted.random])}
    return works | ({"largest_step_s": work([space.largest()])} if wanted.alone else {})
