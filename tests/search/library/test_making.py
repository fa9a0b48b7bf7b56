import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from vitpareto.search.executors import LocalExecutor, ProcessExecutor
from vitpareto.search.library import units
from vitpareto.search.library.files import checkpoint_of, load, save
from vitpareto.search.library.making import make_library
from vitpareto.search.library.parts import Library, option_name
from vitpareto.search.library.start import Start
from vitpareto.search.library.units import unit_counts
from vitpareto.search.training.checkpoint import State
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import RunError, SpaceError

from ...shared import slow_but
from .conftest import SPACE

STEPS = 3
UNITS = ("attn heads", "mlp hidden")
SMALL = SearchSpace.from_text(SPACE.replace("[softmax, linear, grouped]", "[softmax, linear]"))


class Counting(LocalExecutor):
    """Counts calls, and dies after some of them."""

    def __init__(self, calls: int = 1 << 30) -> None:
        self.calls, self._most = 0, calls

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.calls == self._most:
            raise RuntimeError("the machine went away")
        self.calls += 1
        return super().submit(fn, *args, **kwargs)


@pytest.fixture(scope="module")
def few(start: Start) -> Start:
    return Start(start.architecture, start.weights, start.images[:24])


@pytest.fixture(scope="module")
def file(few: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a library was made; copy it before changing anything in it."""
    path = tmp_path_factory.mktemp("made") / "library.safetensors"
    make_library(few, SMALL, LocalExecutor(), path, STEPS)
    return path


@pytest.fixture(scope="module")
def made(few: Start, file: Path) -> Library:
    return load(checkpoint_of(file, few), few)


def equal(first: Library, second: Library) -> bool:
    options = first.options
    return (
        first.dropped == second.dropped
        and first.explained == dict(second.explained)
        and (first.missed, first.lost, first.cuts) == (second.missed, second.lost, second.cuts)
        and options.keys() == second.options.keys()
        and all(v.equal(second.units[n]) for n, v in first.units.items())
        and all(
            wide.axes == second.options[n][part].axes
            and wide.value.equal(second.options[n][part].value)
            for n, option in options.items()
            for part, wide in option.items()
        )
    )


@pytest.mark.parametrize("calls", slow_but((2, 6), [0, 2, 4, 6]))
def test_a_killed_making_goes_on(few: Start, made: Library, tmp_path: Path, calls: int) -> None:
    path = tmp_path / "deep" / "library.safetensors"
    with pytest.raises(RuntimeError, match="went away"):
        make_library(few, SMALL, Counting(calls), path, STEPS)
    rest = Counting()
    assert equal(made, make_library(few, SMALL, rest, path, STEPS))
    whole = 3 + 2 + 3  # blocks that may go first, that may go next, options
    # A round in which a block is chosen is made again if it had not ended.
    assert rest.calls == whole - {0: 0, 2: 0, 4: 3, 6: 6}[calls]
    again = Counting()
    assert equal(made, make_library(few, SMALL, again, path, STEPS))
    assert again.calls == 0


def test_other_processes_make_the_same(
    few: Start, made: Library, elsewhere: ProcessExecutor, tmp_path: Path
) -> None:
    library = make_library(few, SMALL, elsewhere, tmp_path / "library.safetensors", STEPS)
    assert equal(made, library)


def test_a_larger_space_adds(
    few: Start, file: Path, made: Library, space: SearchSpace, tmp_path: Path
) -> None:
    path = Path(shutil.copy(file, tmp_path))
    more = Counting()
    library = make_library(few, space, more, path, STEPS)
    assert more.calls == 3
    assert library.options.keys() > made.options.keys()
    assert library.dropped == made.dropped


def test_cuts_are_of_the_widths_of_the_space(few: Start, made: Library) -> None:
    """Two of four heads, and a half of the hidden units."""
    names = {f"stages.0.blocks.{j}.{name}" for j in range(3) for name in UNITS}
    assert {name: {*shares} for name, shares in made.cuts.items()} == {
        name: {2 if "heads" in name else 32} for name in names
    }
    shares = [share for by_count in made.cuts.values() for share in by_count.values()]
    assert all(0 < share < 1 for share in shares)
    assert unit_counts(few.architecture, SMALL) == {n: {*s} for n, s in made.cuts.items()}


def test_what_is_known_of_cuts_is_not_computed_again(
    few: Start, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(file, tmp_path))
    monkeypatch.setattr(units, "writers", None)
    again = Start(few.architecture, few.weights, few.images)
    make_library(again, SMALL, LocalExecutor(), path, STEPS)


@pytest.mark.parametrize("name", ["dropped", "missed", "lost", "explained", "cuts"])
def test_a_library_of_another_release_is_refused(
    few: Start, made: Library, tmp_path: Path, name: str
) -> None:
    checkpoint = checkpoint_of(tmp_path / "library.safetensors", few)
    save(checkpoint, made)
    state = checkpoint.load()
    assert state is not None
    assert equal(made, load(checkpoint, few))
    for notes in ({n: v for n, v in state.notes.items() if n != name}, {**state.notes, name: 3}):
        checkpoint.save(State(state.step, state.tensors, notes))
        with pytest.raises(RunError, match=r"library.safetensors: is no library, or one of anoth"):
            load(checkpoint, few)


def test_a_stop_is_heard_and_nothing_is_lost(few: Start, tmp_path: Path) -> None:
    path = tmp_path / "library.safetensors"

    class Interrupted(Counting):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().submit(fn, *args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        make_library(few, SMALL, Interrupted(), path, STEPS)
    rest = Counting()
    make_library(few, SMALL, rest, path, STEPS)
    assert rest.calls == 8 - 3


def test_the_library_of_another_start_is_refused(few: Start, file: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(file, tmp_path))
    moved = {name: value + 0.1 for name, value in few.weights.items()}
    other = Start(few.architecture, moved, few.images)
    with pytest.raises(RunError, match=r"library.safetensors: is a checkpoint of another"):
        make_library(other, SMALL, LocalExecutor(), path, STEPS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"library.safetensors: cannot be read"):
        make_library(few, SMALL, LocalExecutor(), path, STEPS)


def test_a_space_larger_than_the_start_is_refused(few: Start, tmp_path: Path) -> None:
    larger = SearchSpace.from_text(SPACE.replace("num_heads: [2, 4]", "num_heads: [2, 8]"))
    with pytest.raises(SpaceError, match="larger than the start"):
        make_library(few, larger, LocalExecutor(), tmp_path / "library.safetensors", STEPS)


def test_more_training_explains_more(few: Start, made: Library, tmp_path: Path) -> None:
    longer = make_library(few, SMALL, LocalExecutor(), tmp_path / "library.safetensors", 24)
    blocks = few.architecture.stages[0].blocks
    names = {
        option_name(0, j, c)
        for j in range(len(blocks))
        for c in SMALL.candidate({f"stages.0.blocks.{j}.mixer": "linear"}).architecture.blocks()
        if c.mixer == "linear"
    }
    assert names == set(made.explained)
    assert all(longer.explained[name] > made.explained[name] for name in names)
    assert all(share < 1 for share in longer.explained.values())
