"""Table and picture of the comparison of families."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitpareto.search.report.picture import INK, LINE, SOFT

from ._families_cells import Cell, Powers

STEEP = (0.7, 2.0)  # powers at both ends of the colors
BESIDE = 34  # pixels from a line's end to its name


def table(cells: Sequence[Cell], powers: Powers, about: str) -> str:
    """All cells as Markdown, a mixer a row, its grids divided by slashes; refusals below."""
    sides = list(dict.fromkeys(cell.side for cell in cells))
    precisions = list(dict.fromkeys(cell.precision for cell in cells))
    grids = " / ".join(f"{side}x{side}" for side in sides)
    head = ["mixer", "millions of MACs"]
    for precision in precisions:
        head += [f"{precision}, ms", "power of N"]
    head += [f"memory in {precision}, MB" for precision in precisions]
    lines = [f"Grids of {grids} tokens; {about}; powers with their 90% intervals.", ""]
    lines += [_row(head), _row(["---"] * len(head))]
    for name in dict.fromkeys(cell.mixer for cell in cells):
        own = {p: [c for c in cells if (c.mixer, c.precision) == (name, p)] for p in precisions}
        row = [
            f"`{name}`",
            _each(f"{c.macs / 1e6:.0f}" if c.macs else "" for c in own[precisions[0]]),
        ]
        for precision in precisions:
            row.append(_each(f"{c.latency_ms:.3g}" if c.samples_ms else "" for c in own[precision]))
            power = powers.get((name, precision))
            row.append("" if power is None else "{:.2f} ({:.2f} to {:.2f})".format(*power))
        for precision in precisions:
            memory = (c.memory_mb for c in own[precision])
            row.append(_each("" if mb is None else f"{mb:.0f}" for mb in memory))
        lines.append(_row(row))
    refused = [c for c in cells if c.refused]
    lines += [""] * bool(refused)
    return "\n".join(
        [*lines, *(f"- `{c.mixer}` {c.side}x{c.side} {c.precision}: {c.refused}" for c in refused)]
    )


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _each(texts: Any) -> str:
    return " / ".join(text or "-" for text in texts)


def drawn(cells: Sequence[Cell], powers: Powers) -> bytes:
    """Draw latency for a token against tokens as PNG, one panel a precision; steep lines are dark.

    Where latency grows with the number of tokens the line is level.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    precisions = list(dict.fromkeys(cell.precision for cell in cells))
    figure = Figure(figsize=(7.5 * len(precisions), 7.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    first: Any = None
    for i, precision in enumerate(precisions, 1):
        axes = figure.add_subplot(1, len(precisions), i, sharex=first, sharey=first)
        first = first or axes
        axes.set_title(precision, color=INK)
        _draw([c for c in cells if c.precision == precision], powers, axes, Normalize(*STEEP))
    figure.draw_without_rendering()  # settles where everything is
    figure.set_layout_engine("none")  # and it stays there
    for axes, precision in zip(figure.axes, precisions, strict=True):
        _name([c for c in cells if c.precision == precision], figure, axes)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _draw(cells: Sequence[Cell], powers: Powers, axes: Any, norm: Any) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

    for name in dict.fromkeys(c.mixer for c in cells):
        own = [c for c in cells if c.mixer == name and c.samples_ms]
        steep = powers.get((name, cells[0].precision), (STEEP[0],))[0]
        color = colormaps["Blues"](0.3 + 0.7 * norm(steep, clip=True))
        axes.plot([c.side**2 for c in own], [_for_token(c) for c in own], "o-", color=color, ms=4)
    sides = sorted({c.side for c in cells})
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="latency for a token, us")
    axes.xaxis.set_major_locator(FixedLocator([side**2 for side in sides]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(sides[0] ** 2 / 1.2, sides[-1] ** 2 * 2.6)  # room for names
    axes.tick_params(which="both", colors=INK, length=0)
    axes.grid(alpha=0.25, linewidth=0.7)
    axes.spines[:].set_visible(False)


def _for_token(cell: Cell) -> float:
    return 1e3 * cell.latency_ms / cell.side**2


def _name(cells: Sequence[Cell], figure: Any, axes: Any) -> None:
    """Write the names of mixers beside their lines, as near to their ends as they find room."""
    from sklearn.isotonic import isotonic_regression

    last = {c.mixer: (c.side**2, _for_token(c)) for c in cells if c.samples_ms}
    ends = {name: axes.transData.transform(point) for name, point in last.items()}
    ordered = sorted(ends, key=lambda name: ends[name][1])
    rows = LINE * np.arange(len(ordered))  # names keep their order, a line apart
    heights = isotonic_regression(np.array([ends[name][1] for name in ordered]) - rows) + rows
    for name, height in zip(ordered, heights, strict=True):
        axes.annotate(
            name,
            last[name],
            (ends[name][0] + BESIDE, height),
            textcoords="figure pixels",
            va="center",
            color=SOFT,
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.5, "relpos": (0, 0.5)},
        )
