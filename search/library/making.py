"""Making: the library of a start for a space, kept as it goes and continued where it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ...spaces import SearchSpace
from ..console import progress, stop_request
from .depth import Without, rivals
from .files import checkpoint_of, load, save
from .guides import is_guide, unknown_guides
from .options import STEPS, Teaching, tasks
from .parts import Library
from .start import Start
from .units import explained_by_units, unit_counts, units_by_importance

POLL_S = 0.2  # between two looks at whether a stop was asked for
A = TypeVar("A")
K = TypeVar("K")
R = TypeVar("R")


def make_library(
    start: Start, space: SearchSpace, executor: Executor, path: Path, steps: int = STEPS
) -> Library:
    """Everything from which the candidates of a space are assembled.

    What the file has is not made again: a killed making goes on, and a larger space adds to it.

    Args:
        start: the network that is imitated, with some hundred images.
        space: its largest network is the start.
        executor: does what is independent.
        path: `library.safetensors`; folders on the way are made.
        steps: of training, for each other mixer.

    Raises:
        RunError: the file is of another start, or cannot be written.
        SpaceError: a network of the space is larger than the start.
        KeyboardInterrupt: as asked, after what there is was written.
    """
    checkpoint = checkpoint_of(path, start)
    library = load(checkpoint, start)
    shallowest = _shallowest(space)
    wanted = [task for task in tasks(start.architecture, space) if task.name not in library.options]
    if not library.units:
        library = replace(library, units=units_by_importance(start))
    library = replace(library, cuts=_cuts(library, space))
    guides = {size: is_guide(library, size) for size in unknown_guides(library, space)}
    library = replace(library, sees={**library.sees, **guides})
    rounds = list(_rounds(library, shallowest))
    count = len(wanted) + sum(left for _, left in rounds)
    with progress(count, "library", "part") as bar, stop_request() as asked:
        try:
            without = Without(start)
            for stage, _ in rounds:
                choices = rivals(start.architecture, library.dropped, stage)
                losses: dict[int, float] = {}
                for block, loss in _results(executor, without, choices, asked):
                    losses[block] = loss
                    bar.update()
                library = library.dropping(stage, losses)
                save(checkpoint, library)
            teaching = Teaching(replace(library, options={}), steps)
            by_name = {task.name: task for task in wanted}
            for name, learned in _results(executor, teaching, by_name, asked):
                library = library.adding(name, *learned)
                bar.update()
                if checkpoint.due():
                    save(checkpoint, library)
        finally:
            save(checkpoint, library)
    return library


def _shallowest(space: SearchSpace) -> list[int]:
    """Fewest blocks of every stage."""
    depths = [
        [len(stage.blocks) for stage in candidate.architecture.stages]
        for candidate in (*space.covering(), space.smallest())
    ]
    return [min(stage) for stage in zip(*depths, strict=True)]


def _cuts(library: Library, space: SearchSpace) -> dict[str, dict[int, float]]:
    """What the cut modules of a space keep; what is known already is not computed again."""
    known = {name: dict(shares) for name, shares in library.cuts.items()}
    wanted = {
        name: counts - known.get(name, {}).keys()
        for name, counts in unit_counts(library.start.architecture, space).items()
        if name in library.units
    }
    for name, shares in explained_by_units(library.start, library.units, wanted).items():
        known[name] = known.get(name, {}) | shares
    return known


def _rounds(library: Library, shallowest: list[int]) -> Iterator[tuple[int, int]]:
    """Stage and rivals of each block that is still to be given up."""
    for i, stage in enumerate(library.start.architecture.stages):
        known = len(library.dropped[i]) if library.dropped else 0
        for left in range(len(stage.blocks) - known, shallowest[i], -1):
            yield i, left


def _results(
    executor: Executor,
    function: Callable[[A], R],
    arguments: Mapping[K, A],
    asked: threading.Event,
) -> Iterator[tuple[K, R]]:
    """Names of the arguments with the function's results, as they arrive.

    Raises:
        KeyboardInterrupt: a stop was asked for.
    """
    pending: dict[Future[R], K] = {}
    try:
        for name, argument in arguments.items():
            pending[executor.submit(function, argument)] = name  # done at once in this thread
            yield from _arrived(pending, 0.0)
            _check(asked)
        while pending:
            yield from _arrived(pending, POLL_S)
            _check(asked)
    finally:
        for future in pending:
            future.cancel()


def _arrived(pending: dict[Future[R], K], timeout_s: float) -> Iterator[tuple[K, R]]:
    """Take out what is done."""
    done, _ = wait(pending, timeout_s, FIRST_COMPLETED)
    for future in done:
        name = pending.pop(future)
        yield name, future.result()


def _check(asked: threading.Event) -> None:
    if asked.is_set():
        raise KeyboardInterrupt
