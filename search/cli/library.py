"""Commands that look into the library of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import echo, json_option, print_json

if TYPE_CHECKING:
    from ..library.overview import Overview

WIDTH = 6  # characters of a figure


@click.group()
def library() -> None:
    """Look at what candidates of a run with a start are assembled from."""


@library.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Picture to write.")
@json_option
def show(run: Path, png: Path | None, as_json: bool) -> None:
    """Print which blocks of the start of RUN matter, and what can stand in for their parts.

    Of heads, hidden units and other mixers: the share of what the start's own part adds to the
    stream that they say, too, on images of the run. Of blocks: how far the answers are from the
    start's without them, as Kullback-Leibler divergence in nats, and the order in which shallower
    candidates give them up.
    """
    from ..library.overview import read_overview
    from ..store.run_folder import RunFolder

    overview = read_overview(RunFolder(run, lock=False))
    if png:
        from ...spaces.files import write_atomic
        from ..library.picture import library_png

        write_atomic(png, library_png(overview))
    if as_json:
        blocks = [block._asdict() for block in overview.blocks]
        print_json({"blocks": blocks, "to_come": overview.to_come})
    else:
        echo(library_lines(overview))


def library_lines(overview: Overview) -> list[str]:
    """A table for each stage: a column for each block."""
    from ..library.overview import depth_rows, stand_ins

    lines: list[str] = []
    for blocks in overview.stages():
        names = stand_ins(blocks)
        width = max(map(len, [*names, "given up as number"]))

        def line(name: str, cells: list[str], width: int = width) -> str:
            return f"{name:{width}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)

        where = f"stage {blocks[0].stage}, block" if len(overview.stages()) > 1 else "block"
        lines.append(line(where, [str(block.block) for block in blocks]))
        lines += [line(name, cells) for name, cells in depth_rows(blocks, _nats)]
        lines += [
            line(name, [_percent(block.explained.get(name)) for block in blocks]) for name in names
        ]
        lines.append("")
    if overview.to_come:
        lines.append(f"{overview.to_come} more are still to be made")
    return lines if overview.to_come else lines[:-1]


def _nats(value: float) -> str:
    """A divergence in five characters."""
    return f"{value:.3f}"[:5].rstrip(".")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
