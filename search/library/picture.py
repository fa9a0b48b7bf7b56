"""Picture: which blocks of a start matter, and what can stand in for their parts."""

from __future__ import annotations

import io
from typing import Any

from ...spaces.errors import RunError
from .overview import BlockView, Overview, stand_ins

CELL_INCHES = 0.52, 0.3
BARS_INCHES = 1.3
LEAST = 9  # columns for which there is room, so that titles have it, too
DARK = 0.6  # share from which a cell is so dark that its text is white
INK, SOFT, ACCENT = "#22262b", "#8a919b", "#c8500b"


def library_png(overview: Overview) -> bytes:
    """Draw divergences without each block as bars, and shares as cells, stage below stage.

    Raises:
        RunError: the space has neither shallower networks nor smaller parts.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages = overview.stages()
    heights = [h for blocks in stages for h in _heights(blocks)]
    if not heights:
        raise RunError("library: nothing to draw: the space varies no part of the start's blocks")
    most = max(LEAST, *(len(blocks) for blocks in stages))
    size = 2.4 + CELL_INCHES[0] * most, sum(heights) + 0.75 * len(heights)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    rows = iter(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    for blocks in stages:
        where = f"stage {blocks[0].stage}, " if len(stages) > 1 else ""
        if any(block.alone_nats is not None for block in blocks):
            title = "nats from the start without one block; shallower candidates lack the gray ones"
            _bars(next(rows), blocks, f"{where}{title}", most)
        if stand_ins(blocks):
            title = "share of what a part writes that a stand-in says, too, %"
            _cells(next(rows), blocks, f"{where}{title}", most)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _heights(blocks: list[BlockView]) -> list[float]:
    """Inches of the panels of a stage."""
    bars = [BARS_INCHES] if any(block.alone_nats is not None for block in blocks) else []
    names = stand_ins(blocks)
    return bars + ([CELL_INCHES[1] * len(names)] if names else [])


def _bars(axes: Any, blocks: list[BlockView], title: str, most: int) -> None:
    heights = [block.alone_nats or 0.0 for block in blocks]
    colors = [SOFT if block.place else ACCENT for block in blocks]
    axes.bar(range(len(blocks)), heights, color=colors, width=0.8)
    for x, (block, height) in enumerate(zip(blocks, heights, strict=True)):
        if block.place:
            words = f"goes\n{_ordinal(block.place)}"
            axes.annotate(words, (x, height), (0, 2), textcoords="offset points", ha="center",
                          color=INK, fontsize=7)  # fmt: skip
    axes.set_ylim(0, 1.35 * max(heights) or 1)
    axes.grid(axis="y", alpha=0.25, linewidth=0.7)
    axes.set_axisbelow(True)
    _finish(axes, blocks, title, most)


def _cells(axes: Any, blocks: list[BlockView], title: str, most: int) -> None:
    names = stand_ins(blocks)
    shares = [[block.explained.get(name, float("nan")) for block in blocks] for name in names]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for y, row in enumerate(shares):
        for x, share in enumerate(row):
            if share == share:
                color = "white" if share > DARK else INK
                axes.text(x, y, f"{100 * share:.0f}", ha="center", va="center", color=color,
                          fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    _finish(axes, blocks, title, most)


def _finish(axes: Any, blocks: list[BlockView], title: str, most: int) -> None:
    """A column for each block, as wide as in the other stages."""
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.set_xlim(-0.5, most - 0.5)
    axes.set_xticks(range(len(blocks)), [str(block.block) for block in blocks])
    axes.tick_params(length=0, colors=INK, labelsize=8)
    axes.spines[:].set_visible(False)


def _ordinal(number: int) -> str:
    """A number in an order.

    >>> [_ordinal(n) for n in (1, 2, 3, 4, 11, 22)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
