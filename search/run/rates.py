"""Rates: durations of the steps of a run on this machine, timed once before they are needed.

What is timed is the code that the run executes, on its own images where it has read them. Weights
are untrained, as the duration of a step does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from ...cost_models.runtimes.torch import threads
from ...spaces import Candidate, SearchSpace
from ...spaces.errors import RunError
from ...spaces.supernet import Supernet
from ..config import RunConfig, TrainConfig
from ..cores import core_count
from ..data.augment import KEPT_MB, augmented, draws
from ..data.dataset import Data, Split
from ..data.splits import SPLITS
from ..library.options import tasks
from ..scoring.forecast import draw_examples
from ..scoring.inherited import Evaluator
from ..store.atomic_files import read_json, write_json
from ..training.forward import predict as answer_alone
from ..training.losses import Lesson
from ..training.optimizer import Optimizer, torch_device
from ..training.sandwich import ALONE, Draw, Sandwich
from ..training.supernet import fresh, from_scratch, training_steps
from ..training.teacher import FASTER, Lessons, Teacher, answers, batches_in, open_teacher, teach
from .timing import median_seconds

VIEWS = 12  # augmented views of every train image whose teacher logits are kept
TYPICAL = 4  # random candidates whose training is timed
FEW = 64  # images whose reading, views and answers are timed
PROPOSE_S = 0.03  # seconds of one trial without its scoring
FOREVER = 1_000_000  # steps of a training that is only timed


@dataclass(frozen=True)
class Rates:
    """Durations of steps and sizes of files.

    Attributes:
        images: in all splits.
        train_images: in the train split.
        validation_images: in the validation split.
        reading_s: of reading all images.
        view_s: of making one augmented view of the train split.
        kept_views: that stay in memory, so that a process makes them once.
        blocks: of the largest network.
        options: mixers that a library of it holds; 0 without a start.
        start_step_s: of one step of adapting the start.
        teacher_step_s: of one step of the teacher's training; 0 where it is ready.
        answer_s: of the teacher's answers to one view of the train split.
        supernet_step_s: of one step of the supernet that trains several candidates.
        largest_step_s: of one that trains the largest alone.
        short_step_s: of a typical candidate, trained alone with the recipe of `proxy`, in a worker.
        finish_step_s: likewise, with the recipe of `finish`.
        judge_s: of the answers of a typical candidate to the validation split, in a worker.
        trial_s: of one trial of the search.
        supernet_mb: weights of the largest network.
        teacher_mb: weights of the teacher.
        logits_mb: the teacher's answers to all views.
        config: of the run.
    """

    images: int
    train_images: int
    validation_images: int
    reading_s: float
    view_s: float
    kept_views: int
    blocks: int
    options: int
    start_step_s: float
    teacher_step_s: float
    answer_s: float
    supernet_step_s: float
    largest_step_s: float
    short_step_s: float
    finish_step_s: float
    judge_s: float
    trial_s: float
    supernet_mb: float
    teacher_mb: float
    logits_mb: float
    config: RunConfig

    def steps(self, training: TrainConfig) -> int:
        """Steps of a whole training."""
        return training.epochs * batches_in(self.train_images, training.batch_size)

    def fresh_views(self, passes: int) -> int:
        """Views that are made in some passes over the train split."""
        whole, rest = divmod(passes, VIEWS)
        uses = [whole + (view < rest) for view in range(VIEWS)]
        return sum(min(1, n) if view < self.kept_views else n for view, n in enumerate(uses))

    def save(self, path: Path) -> None:
        """Write all but the configuration."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "config"}
        write_json(path, numbers)

    @classmethod
    def load(cls, path: Path, config: RunConfig) -> Rates:
        """Inverse of `save`.

        Raises:
            RunError: the file cannot be read, or is of another release.
        """
        numbers: dict[str, Any] = read_json(path)
        try:
            return cls(**numbers, config=config)
        except TypeError as error:
            raise RunError(f"{path}: not the rates of this release: {error}") from error


@dataclass(frozen=True)
class _OneBatch(Lessons):
    """Lessons that are the same batch again and again."""

    lesson: Any = None

    def batches(self, batch_size: int, epochs: int, seed: int, start: int = 0) -> Iterator[Lesson]:
        """The batch, cut to a size."""
        cut = self.lesson[torch.arange(batch_size) % len(self.lesson.labels)]
        while True:
            yield replace(cut, tokens=self.tokens(cut.images))

    def steps(self, batch_size: int, epochs: int) -> int:
        """As many as anybody takes."""
        return FOREVER


def measure_rates(config: RunConfig, space: SearchSpace, data: Data, reading_s: float) -> Rates:
    """Time some steps of each training, and a few scores.

    Call it with as many threads of torch as the main process of the run has.

    Args:
        config: of the run.
        space: that it searches.
        data: as large as that of the run.
        reading_s: that looking at all images took.
    """
    seed, train = config.search.seed, len(data.train_labels)
    largest = space.largest().architecture
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        start = Teacher(largest) if config.start.model else None
        own = start if start and not config.teacher.model else open_teacher(data, config.teacher)
        teacher = own.to(torch_device()).to(memory_format=FASTER)
    lessons = _one_batch(config, data, teacher)
    supernet = from_scratch(space, seed).to(torch_device())
    here = median_seconds(
        {
            "view": _view(data),
            "answer": _answer(data, teacher),
            **(
                {"start": _training(config.start.adapt, start.to(torch_device()), lessons)}
                if start
                else _supernet(config, space, supernet, lessons)
            ),
            **(
                {}
                if start or config.teacher.model
                else {"teacher": _training(config.teacher, teacher, lessons)}
            ),
        }
    )
    share = train / FEW
    typical = draw_examples(space, TYPICAL, seed)
    works = _alone(config, data, lessons, typical)
    if not config.examples:
        evaluator = Evaluator(supernet, data.split("search"), data.split("train"))
        works |= {f"score {c.key}": partial(evaluator, c) for c in typical}
    with threads(worker_threads(config)):
        alone = median_seconds(works)
    mean = {
        what: fmean(s for name, s in alone.items() if name.startswith(f"{what} "))
        for what in dict.fromkeys(name.partition(" ")[0] for name in alone)
    }
    return Rates(
        images=sum(map(data.count, SPLITS)),
        train_images=train,
        validation_images=data.count("validation"),
        reading_s=reading_s,
        view_s=here["view"] * share,
        kept_views=int(KEPT_MB / data.view_mb),
        blocks=len([*largest.blocks()]),
        options=len(tasks(largest, space)) if start else 0,
        start_step_s=here.get("start", 0.0),
        teacher_step_s=here.get("teacher", 0.0),
        answer_s=here["answer"] * share,
        supernet_step_s=here.get("supernet", 0.0),
        largest_step_s=here.get("largest", 0.0),
        short_step_s=mean["short"],
        finish_step_s=mean["finish"],
        judge_s=mean["judge"] * max(1.0, data.count("validation") / FEW),
        trial_s=PROPOSE_S + mean.get("score", 0.0) / config.executor.workers,
        supernet_mb=_weights_mb(supernet.parameters()),
        teacher_mb=_weights_mb(teacher.parameters()),
        logits_mb=VIEWS * train * data.num_classes * 4 / 1e6,
        config=config,
    )


def main_threads(config: RunConfig) -> int:
    """Threads of torch in the process that trains teacher and shared weights."""
    return config.executor.threads or core_count()


def worker_threads(config: RunConfig) -> int:
    """Threads of torch in whatever trains and scores single candidates."""
    executor = config.executor
    alone = executor.kind == "local" and executor.workers == 1
    return torch.get_num_threads() if alone else max(1, executor.threads)


def _one_batch(config: RunConfig, data: Data, teacher: nn.Module) -> _OneBatch:
    trainings = config.start.adapt, config.teacher, config.supernet, config.proxy, config.finish
    most = max(training.batch_size for training in trainings)
    labels = data.train_labels[:most]
    lesson = Lesson(_noise(data, len(labels)), labels, torch.zeros(len(labels), data.num_classes))
    of = Lessons.of(data, torch.zeros(1, 0, 0), config.distill, teacher)
    return _OneBatch(of.views, of.labels, of.teacher, of.config, of.network, lesson=lesson)


def _noise(data: Data, count: int = FEW) -> Tensor:
    """Images as large as those of the data, with gradients that are finite."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, data.in_chans, data.input_size, data.input_size, generator=generator)


def _view(data: Data) -> Callable[[], object]:
    """Makes one view of a few train images."""
    few = _noise(data)
    return lambda: augmented(few, draws(len(few), 0))


def _answer(data: Data, teacher: nn.Module) -> Callable[[], object]:
    few = _noise(data)
    return lambda: answers(teacher.eval(), few)


def _training(recipe: TrainConfig, network: nn.Module, lessons: Lessons) -> Callable[[], object]:
    """Trains a network on labels alone for a step."""
    optimizer = Optimizer(network.named_parameters(), recipe, FOREVER)
    lesson = next(lessons.batches(recipe.batch_size, 1, 0))
    return lambda: teach(network.train(), optimizer, lesson.images, lesson.labels)


def _supernet(
    config: RunConfig, space: SearchSpace, supernet: Supernet, lessons: Lessons
) -> dict[str, Callable[[], object]]:
    """A step of each kind that the training of the supernet has."""
    seed, wanted = config.search.seed, config.supernet
    optimizer = Optimizer(supernet.params.items(), wanted, FOREVER)
    sandwich = Sandwich(supernet, lessons, wanted, ALONE)
    batches = lessons.batches(wanted.batch_size, 1, seed)

    def steps(draw: Draw, first: int) -> Iterator[None]:
        for step, lesson in enumerate(batches, first):
            _, candidates = zip(*draw(step), strict=True)
            sandwich.step(candidates, lesson)
            optimizer.step()
            yield

    together = steps(Draw(space, wanted.model_copy(update={"alone": 0.0}), FOREVER, seed), 1)
    if not wanted.alone:
        return {"supernet": lambda: next(together)}
    largest = steps(Draw(space, wanted.model_copy(update={"alone": 1.0}), FOREVER, seed), 0)
    return {"supernet": lambda: next(together), "largest": lambda: next(largest)}


def _alone(
    config: RunConfig, data: Data, lessons: Lessons, typical: Sequence[Candidate]
) -> dict[str, Callable[[], object]]:
    """Training steps and answers of single candidates, by what and key."""
    works: dict[str, Callable[[], object]] = {}
    few = Split(_noise(data), data.train_labels[:FEW])
    for candidate in typical:
        network = fresh(candidate, config.search.seed)
        for name, recipe in (("short", config.proxy), ("finish", config.finish)):
            steps = training_steps(candidate, network, lessons, recipe, 0, FOREVER)
            works[f"{name} {candidate.key}"] = partial(next, steps)
        works[f"judge {candidate.key}"] = partial(answer_alone, candidate, network, few)
    return works


def _weights_mb(parameters: Iterable[nn.Parameter]) -> float:
    return sum(4 * p.numel() for p in parameters) / 1e6
