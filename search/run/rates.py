"""Rates: durations of the steps of a run on this machine, timed once before they are needed.

What is timed is the code that the run executes, on its own images where it has read them. Weights
are untrained, as the duration of a step does not depend on them.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
from ...spaces.networks import Network
from ..config import RunConfig, TrainConfig
from ..cores import core_count
from ..data.augment import KEPT_MB, augmented, draws
from ..data.dataset import Data, Split
from ..data.splits import SPLITS
from ..library.options import tasks
from ..library.parts import Library
from ..library.repair import assemble
from ..library.start import Start
from ..scoring.assembled import LOOKED_AT, glanced_at
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

VIEWS = 12  # augmented views of every train image whose teacher logits are kept, at most
TYPICAL = 4  # random candidates whose training is timed
FEW = 64  # images whose reading, views and answers are timed
OF_A_PASS = ("view_s", "answer_s")  # timed on a few images of the train split
ALONE_S = ("short_step_s", "finish_step_s", "judge_s")
TIMED = (
    *("process_s", "start_step_s", "teacher_step_s", "supernet_step_s", "largest_step_s"),
    "score_s",
    *(*OF_A_PASS, *ALONE_S),
)
PROCESS = "import vitpareto.cost_models.measure.worker"
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
        score_s: of scoring a candidate with inherited or assembled weights; 0 where a forecast
            does without them.
        process_s: of starting a process that measures.
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
    score_s: float
    process_s: float
    supernet_mb: float
    teacher_mb: float
    logits_mb: float
    config: RunConfig

    def steps(self, training: TrainConfig) -> int:
        """Steps of a whole training."""
        return training.epochs * batches_in(self.train_images, training.batch_size)

    @property
    def views(self) -> int:
        """Augmented views of which the teacher's answers are kept."""
        return views_of(self.config, self.train_images)

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


def views_of(config: RunConfig, train_images: int) -> int:
    """Augmented views of which a run keeps the teacher's answers: no more than a training sees.

    A run with a budget does not know yet how many that will be. It keeps half of the views, as
    the time for the others is worth more in the training of the teacher.
    """
    if config.budget_s:
        return VIEWS // 2
    short = config.finish if config.start.model else config.proxy
    steps = config.forecast.steps if config.forecast.candidates else 0
    passes = math.ceil(steps * short.batch_size / train_images)
    trainings = (
        [config.finish] if config.start.model else [config.supernet, config.proxy, config.finish]
    )
    return min(VIEWS, max(passes, *(training.epochs for training in trainings)))


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
    largest = space.largest().architecture
    teacher = _teacher_of(config, space, data)
    train = len(data.train_labels)
    return Rates(
        images=sum(map(data.count, SPLITS)),
        train_images=train,
        validation_images=data.count("validation"),
        reading_s=reading_s,
        kept_views=int(KEPT_MB / data.view_mb),
        blocks=len([*largest.blocks()]),
        options=len(tasks(largest, space)) if config.start.model else 0,
        **dict.fromkeys(TIMED, 0.0) | durations(config, space, data, TIMED),
        supernet_mb=_weights_mb(Network(largest).parameters()),
        teacher_mb=_weights_mb(teacher.parameters()),
        logits_mb=views_of(config, train) * train * data.num_classes * 4 / 1e6,
        config=config,
    )


def durations(
    config: RunConfig, space: SearchSpace, data: Data, names: Collection[str]
) -> dict[str, float]:
    """Some attributes of `Rates` as they are now, by name; those that the run lacks are left out.

    Args:
        config: of the run.
        space: that it searches.
        data: as large as that of the run.
        names: of attributes in `TIMED`.
    """
    works = _together(config, space, data, names)
    seconds = median_seconds({name: work for name, work in works.items() if name in names})
    alone = [name for name in ALONE_S if name in names]
    if config.start.model or not config.forecast.candidates:
        alone += [name for name in ("score_s",) if name in names]
    if alone:
        typical = draw_examples(space, TYPICAL, config.search.seed)
        each = candidate_durations(config, space, data, typical, alone)
        seconds |= {name: fmean(each[c.key][name] for c in typical) for name in alone}
    share = len(data.train_labels) / FEW
    return seconds | {name: seconds[name] * share for name in OF_A_PASS if name in seconds}


def candidate_durations(
    config: RunConfig,
    space: SearchSpace,
    data: Data,
    candidates: Sequence[Candidate],
    names: Collection[str],
) -> dict[str, dict[str, float]]:
    """Durations of the training of candidates alone in a worker, by key and name."""
    lessons = _one_batch(config, data, _teacher_of(config, space, data))
    works = _alone(config, data, lessons, candidates)
    if "score_s" in names:
        evaluator = _scorer(config, space, data)
        works |= {("score_s", c.key): partial(evaluator, c) for c in candidates}
    with threads(worker_threads(config)):
        seconds = median_seconds({key: work for key, work in works.items() if key[0] in names})
    scales = {"judge_s": max(1.0, data.count("validation") / FEW)}
    if config.start.model:  # assembled and asked, each with a few images here
        assembled = glanced_at(space.largest().architecture)
        seen = min(LOOKED_AT, data.count("search"))
        scales["score_s"] = (assembled + seen) / (2 * FEW)
    return {
        c.key: {name: seconds[name, c.key] * scales.get(name, 1.0) for name in names}
        for c in candidates
    }


def _scorer(config: RunConfig, space: SearchSpace, data: Data) -> Callable[[Candidate], object]:
    """Scores candidates as the run does, from weights that are not trained."""
    if not config.start.model:
        supernet = from_scratch(space, config.search.seed).to(torch_device())
        return Evaluator(supernet, data.split("search"), data.split("train"))
    network, few = Teacher(space.largest().architecture), _noise(data)
    library, search = Library(Start.of(network, few)), Split(few, torch.zeros(FEW).long())
    # Assembled each time anew, unlike in a scorer, which keeps its last candidates.
    return lambda candidate: answer_alone(candidate, assemble(library, candidate), search)


def main_threads(config: RunConfig) -> int:
    """Threads of torch in the process that trains teacher and shared weights."""
    return config.executor.threads or core_count()


def worker_threads(config: RunConfig) -> int:
    """Threads of torch in whatever trains and scores single candidates."""
    executor = config.executor
    alone = executor.kind == "local" and executor.workers == 1
    return torch.get_num_threads() if alone else max(1, executor.threads)


def start_process() -> None:
    """Start a process with all that measuring a network needs, and let it end."""
    subprocess.run([sys.executable, "-c", PROCESS], check=True)


def _together(
    config: RunConfig, space: SearchSpace, data: Data, names: Collection[str]
) -> dict[str, Callable[[], object]]:
    """What the main process does, by the name of its duration."""
    teacher = _teacher_of(config, space, data).to(torch_device()).to(memory_format=FASTER)
    lessons, few = _one_batch(config, data, teacher), _noise(data)
    works: dict[str, Callable[[], object]] = {
        "process_s": start_process,
        "view_s": lambda: augmented(few, draws(len(few), 0)),
        "answer_s": lambda: answers(teacher.eval(), few),
    }
    if config.start.model:
        start = Teacher(space.largest().architecture).to(torch_device())
        return works | {"start_step_s": _training(config.start.adapt, start, lessons)}
    if not config.teacher.model:
        works["teacher_step_s"] = _training(config.teacher, teacher, lessons)
    if {"supernet_step_s", "largest_step_s"} & set(names):
        works |= _supernet(config, space, lessons)
    return works


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


def _teacher_of(config: RunConfig, space: SearchSpace, data: Data) -> nn.Module:
    """The teacher, untrained: a start is as large as the largest network of its space."""
    if config.start.model and not config.teacher.model:
        return Teacher(space.largest().architecture)
    return open_teacher(data, config.teacher)


def _training(recipe: TrainConfig, network: nn.Module, lessons: Lessons) -> Callable[[], object]:
    """Trains a network on labels alone for a step."""
    optimizer = Optimizer(network.named_parameters(), recipe, FOREVER)
    lesson = next(lessons.batches(recipe.batch_size, 1, 0))
    return lambda: teach(network.train(), optimizer, lesson.images, lesson.labels)


def _supernet(
    config: RunConfig, space: SearchSpace, lessons: Lessons
) -> dict[str, Callable[[], object]]:
    """A step of each kind that the training of the supernet has."""
    seed, wanted = config.search.seed, config.supernet
    supernet = from_scratch(space, seed).to(torch_device())
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
        return {"supernet_step_s": lambda: next(together)}
    largest = steps(Draw(space, wanted.model_copy(update={"alone": 1.0}), FOREVER, seed), 0)
    return {"supernet_step_s": lambda: next(together), "largest_step_s": lambda: next(largest)}


def _alone(
    config: RunConfig, data: Data, lessons: Lessons, candidates: Sequence[Candidate]
) -> dict[tuple[str, str], Callable[[], object]]:
    """Training steps and answers of single candidates, by the name of the duration and key."""
    works: dict[tuple[str, str], Callable[[], object]] = {}
    few = Split(_noise(data), torch.zeros(FEW, dtype=torch.long))
    for candidate in candidates:
        network = fresh(candidate, config.search.seed)
        for name, recipe in (("short_step_s", config.proxy), ("finish_step_s", config.finish)):
            steps = training_steps(candidate, network, lessons, recipe, 0, FOREVER)
            works[name, candidate.key] = partial(next, steps)
        works["judge_s", candidate.key] = partial(answer_alone, candidate, network, few)
    return works


def _weights_mb(parameters: Iterable[nn.Parameter]) -> float:
    return sum(4 * p.numel() for p in parameters) / 1e6
