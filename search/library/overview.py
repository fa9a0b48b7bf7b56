"""Overview: which blocks of a start matter, and how much can stand in for their parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...spaces import Architecture, Block, SearchSpace
from ...spaces.errors import RunError
from ..config import load_config
from ..store.run_folder import RunPaths
from .files import Known, read_known
from .options import tasks
from .units import pruned_by

WORDS = {"heads": "heads", "hidden": "hidden units"}  # by axis


class BlockView(NamedTuple):
    """A block of a start.

    Attributes:
        stage: number of its stage.
        block: number in its stage.
        mixer: that it has.
        alone_nats: divergence of the network without this block alone, repaired; None where no
            network of the space has fewer blocks.
        place: it is given up as number 1, 2, ... of its stage; None if it stays.
        lost_nats: divergence once it and those before it are given up.
        explained: what can stand in for a part of the block, such as "2 of 6 heads" or "linear
            kernel_size=3" -> share that it says of what the part adds to the stream.
    """

    stage: int
    block: int
    mixer: str
    alone_nats: float | None
    place: int | None
    lost_nats: float | None
    explained: Mapping[str, float]


class Overview(NamedTuple):
    """A library, as far as it is made.

    Attributes:
        blocks: of the start.
        to_come: number of mixers that are not made yet.
    """

    blocks: list[BlockView]
    to_come: int

    def stages(self) -> list[list[BlockView]]:
        """Blocks by stage."""
        last = self.blocks[-1].stage
        return [[b for b in self.blocks if b.stage == i] for i in range(last + 1)]


def read_overview(paths: RunPaths) -> Overview:
    """The library of a run, whose space has the start as its largest network.

    Raises:
        RunError: the run has no start, its library is not begun, or the file cannot be read.
    """
    if not load_config(paths.config).start.model:
        raise RunError(f"{paths.path}: has no start, and so no library: only runs with start: do")
    if not paths.library.is_file():
        raise RunError(
            f"{paths.path}: its library is not made yet: continue the run with "
            f"vitpareto search {paths.config} --run-dir {paths.path} --resume"
        )
    space, known = SearchSpace.from_yaml(paths.space), read_known(paths.library)
    start = space.largest().architecture
    wanted = {task.name for task in tasks(start, space)}
    return Overview(_views(start, known), len(wanted - known.explained.keys()))


def stand_ins(blocks: list[BlockView]) -> list[str]:
    """All that can stand in for parts of some blocks, cuts first."""
    return list(dict.fromkeys(name for block in blocks for name in block.explained))


def depth_rows(
    blocks: list[BlockView], spelled: Callable[[float], str]
) -> list[tuple[str, list[str]]]:
    """What is known of networks without some blocks: a label, and a cell for each block.

    Args:
        blocks: of one stage.
        spelled: writes a divergence.
    """

    def nats(value: float | None) -> str:
        return "" if value is None else spelled(value)

    rows = [
        ("without it, nats", [nats(block.alone_nats) for block in blocks]),
        ("given up as number", [str(block.place or "") for block in blocks]),
        ("then, nats", [nats(block.lost_nats) for block in blocks]),
    ]
    return [(label, cells) for label, cells in rows if any(cells)]


def _views(start: Architecture, known: Known) -> list[BlockView]:
    views: list[BlockView] = []
    for i, stage in enumerate(start.stages):
        order = known.dropped[i] if known.dropped else ()
        for j, block in enumerate(stage.blocks):
            path = f"stages.{i}.blocks.{j}"
            explained = {
                f"{count} of {getattr(block, number)} {WORDS[name.split()[1]]}": share
                for name, number in pruned_by(block).items()
                for count, share in sorted(known.cuts.get(f"{path}.{name}", {}).items())[::-1]
            }
            explained |= {
                _own_words(name.removeprefix(f"{path} "), block): share
                for name, share in sorted(known.explained.items())
                if name.startswith(f"{path} ")
            }
            place = order.index(j) + 1 if j in order else None
            alone, lost = known.missed.get(path), known.lost.get(path)
            views.append(BlockView(i, j, block.mixer, alone, place, lost, explained))
    return views


def _own_words(option: str, block: Block) -> str:
    """A mixer with the numbers that the block does not have likewise.

    >>> _own_words("linear head_dim=8 kernel_size=3", Block("softmax", num_heads=2, head_dim=8))
    'linear kernel_size=3'
    """
    same = {f"{name}={value}" for name, value in block.numbers}
    return " ".join(word for word in option.split() if word not in same)
