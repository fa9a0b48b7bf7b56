"""Rates: durations of the steps of a run on this machine, timed once before they are needed.

What is timed is the code that the run executes, see `pieces`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from ...cost_models.runtimes.torch import threads
from ...spaces import Candidate, SearchSpace
from ...spaces.errors import RunError
from ...spaces.networks import Network
from ..config import RunConfig, TrainConfig
from ..cores import core_count
from ..data.augment import KEPT_MB
from ..data.dataset import Data
from ..data.splits import SPLITS
from ..library.options import tasks
from ..scoring.assembled import glanced_at, looked_at
from ..start.fitted import imitated_on
from ..start.patches import Patches, patch_sizes
from ..store.atomic_files import read_json, write_json
from ..training.teacher import batches_in
from .crowding import crowding as measure_crowding
from .crowding import other_workers
from .pieces import FEW, alone, teacher_of, together, typical
from .timing import timed

VIEWS = 12  # augmented views of every train image whose teacher logits are kept, at most
OF_A_PASS = ("view_s", "answer_s")  # timed on a few images of the train split
ALONE_S = ("short_step_s", "finish_step_s", "judge_s")
KINDS = {
    "short_step_s": "train",
    "finish_step_s": "train",
    "judge_s": "judge",
    "score_s": "score",
}  # of pieces
TIMED = (
    *("process_s", "start_step_s", "teacher_step_s", "supernet_step_s", "largest_step_s"),
    "score_s",
    *(*OF_A_PASS, *ALONE_S),
)


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
        start_step_s: of one step of the start's training through its own patches.
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
        search_images: in the search split; 0 in rates of releases before 0.3.
        imitated_on: images that a library is made on; likewise.
        crowding: factor by which the workers slow each other, part of their durations.
        start_work: of a step of adapting the start, which looks through other patches as well,
            as a multiple of `start_step_s`.
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
    search_images: int = 0
    imitated_on: int = 0
    crowding: float = 1.0
    start_work: float = 1.0

    def steps(self, training: TrainConfig) -> int:
        """Steps of a whole training."""
        return training.epochs * batches_in(self.train_images, training.batch_size)

    @property
    def views(self) -> int:
        """Augmented views of which the teacher's answers are kept."""
        return views_of(self.config, self.train_images)

    def fresh_views(self, passes: int) -> int:
        """Views that are made in some passes over the train split."""
        whole, rest = divmod(passes, self.views)
        uses = [whole + (view < rest) for view in range(self.views)]
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
    network = Network(largest)
    teacher = teacher_of(config, space, data)
    train = len(data.train_labels)
    with other_workers(config) as others:  # which start while networks are made
        works = together(config, space, data, TIMED)
        slower = measure_crowding(config, space, data, others)
    seconds = {name: work.seconds() for name, work in timed(works).items()}
    seconds |= _in_a_worker(config, space, data, TIMED, slower)
    return Rates(
        images=sum(map(data.count, SPLITS)),
        train_images=train,
        validation_images=data.count("validation"),
        reading_s=reading_s,
        kept_views=int(KEPT_MB / data.view_mb),
        blocks=len([*largest.blocks()]),
        options=len(tasks(largest, space)) if config.start.model else 0,
        **dict.fromkeys(TIMED, 0.0) | _of_a_pass(seconds, train),
        supernet_mb=_weights_mb(network.parameters()),
        teacher_mb=_weights_mb(teacher.parameters()),
        logits_mb=views_of(config, train) * train * data.num_classes * 4 / 1e6,
        config=config,
        search_images=data.count("search"),
        imitated_on=imitated_on(largest),
        crowding=slower,
        start_work=Patches(network, patch_sizes(space)).work if config.start.model else 1.0,
    )


def durations(
    config: RunConfig, space: SearchSpace, data: Data, names: Collection[str], crowding: float
) -> dict[str, float]:
    """Some attributes of `Rates` as they are now, by name; those that the run lacks are left out.

    Args:
        config: of the run.
        space: that it searches.
        data: as large as that of the run.
        names: of attributes in `TIMED`.
        crowding: factor by which workers slow each other.
    """
    works = timed(together(config, space, data, names))
    seconds = {name: work.seconds() for name, work in works.items()}
    seconds |= _in_a_worker(config, space, data, names, crowding)
    return _of_a_pass(seconds, len(data.train_labels))


def _of_a_pass(seconds: Mapping[str, float], train_images: int) -> dict[str, float]:
    """Durations, with those of a few images as of the train split."""
    share = train_images / FEW
    return {name: s * share if name in OF_A_PASS else s for name, s in seconds.items()}


def _in_a_worker(
    config: RunConfig, space: SearchSpace, data: Data, names: Collection[str], crowding: float
) -> dict[str, float]:
    """Durations of the training and scoring of a typical candidate, by name."""
    wanted = [name for name in ALONE_S if name in names]
    if config.start.model or not config.forecast.candidates:
        wanted += [name for name in ("score_s",) if name in names]
    if not wanted:
        return {}
    drawn = typical(space, config.search.seed)
    each = candidate_durations(config, space, data, drawn, wanted, crowding)
    return {name: fmean(each[c.key][name] for c in drawn) for name in wanted}


def candidate_durations(
    config: RunConfig,
    space: SearchSpace,
    data: Data,
    candidates: Sequence[Candidate],
    names: Collection[str],
    crowding: float,
) -> dict[str, dict[str, float]]:
    """Durations of the training of candidates alone in a worker, by key and name.

    Args:
        config: of the run.
        space: that it searches.
        data: as large as that of the run.
        candidates: to train.
        names: in `KINDS`.
        crowding: factor by which workers slow each other.

    Returns:
        Seconds by the key of a candidate and the name of what takes them.
    """
    kinds = {name: KINDS[name] for name in names}
    works = alone(config, space, data, candidates, {*kinds.values()})
    with threads(worker_threads(config)):
        timed(works)
    images = {"short_step_s": config.proxy.batch_size, "finish_step_s": config.finish.batch_size}
    scales = {"judge_s": max(1.0, data.count("validation") / FEW)}
    if config.start.model:  # assembled and asked, each with a few images here
        start = space.largest().architecture
        seen = min(looked_at(start), data.count("search"))
        scales["score_s"] = (glanced_at(start) + seen) / (2 * FEW)
    return {
        c.key: {
            name: crowding * works[kind, c.key].seconds(images.get(name)) * scales.get(name, 1.0)
            for name, kind in kinds.items()
        }
        for c in candidates
    }


def main_threads(config: RunConfig) -> int:
    """Threads of torch in the process that trains teacher and shared weights."""
    return config.executor.threads or core_count()


def worker_threads(config: RunConfig) -> int:
    """Threads of torch in whatever trains and scores single candidates."""
    executor = config.executor
    alone = executor.kind == "local" and executor.workers == 1
    return torch.get_num_threads() if alone else max(1, executor.threads)


def _weights_mb(parameters: Iterable[nn.Parameter]) -> float:
    return sum(4 * p.numel() for p in parameters) / 1e6
