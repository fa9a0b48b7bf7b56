"""Rows of the benchmark of compression: files with their bytes, answers and latencies, compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from vitpareto.search.training.accuracy import Z, wilson

OURS = "vitpareto"
WHY = 240  # characters, of what stopped a model
HEAD = (
    "model",
    "made by",
    "training",
    "bytes",
    "smaller",
    "right",
    "against float",
    "ms",
    "faster",
)


@dataclass
class Row:
    """A model.

    Attributes:
        name: of the way in which it was compressed.
        maker: program that did it.
        training: how it was trained.
        path: of its file.
        right: on which images it is right (N,).
        latency_ms: of one image, median, tenth and ninetieth percentile.
    """

    name: str
    maker: str
    training: str
    path: Path
    right: NDArray[np.bool_]
    latency_ms: tuple[float, float, float] = (math.nan, math.nan, math.nan)

    @property
    def bytes(self) -> int:
        """Of its file as it lies on disk."""
        return self.path.stat().st_size

    def __str__(self) -> str:
        return f"{self.maker}: {self.name}"


@dataclass(frozen=True)
class Failed:
    """A model that there is not.

    Attributes:
        name: of the way in which it was to be compressed.
        maker: program that was to do it.
        why: in one line.
    """

    name: str
    maker: str
    why: str


def against(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float, float]:
    """By how much one model is more often right than another on the same images, with its interval.

    The interval of 95% is for pairs, by Agresti and Min (Statistics in Medicine 24, 2005): one more
    image is added on which each of both is right alone, and one on which both agree, all half.
    """
    n, gained, lost = len(right), int((right & ~other).sum()), int((other & ~right).sum())
    more, less, all_ = gained + 0.5, lost + 0.5, n + 2
    half = Z * math.sqrt(more + less - (more - less) ** 2 / all_) / all_
    middle = (more - less) / all_
    return (gained - lost) / n, middle - half, middle + half


def table(rows: Sequence[Row], failed: Sequence[Failed] = ()) -> str:
    """All rows as Markdown; the first is the network in float, those that failed come last."""
    exact = rows[0]
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    for row in rows:
        n, share = len(row.right), float(row.right.mean())
        low, high = wilson(share * n, n)
        gain, least, most = against(row.right, exact.right)
        ms, p10, p90 = row.latency_ms
        lines.append(
            _line(
                (
                    row.name,
                    row.maker,
                    row.training,
                    f"{row.bytes:,}",
                    f"{exact.bytes / row.bytes:.2f} x",
                    f"{share:.2%} ({low:.1%} to {high:.1%})",
                    "" if row is exact else f"{gain:+.2%} ({least:+.2%} to {most:+.2%})",
                    f"{ms:.3f} ({p10:.3f} to {p90:.3f})",
                    f"{exact.latency_ms[0] / ms:.2f} x",
                )
            )
        )
    for one in failed:
        why = shorten(one.why.replace("|", "/"), WHY, placeholder=" ...")
        lines.append(_line((one.name, one.maker, why, *[""] * (len(HEAD) - 3))))
    return "\n".join(lines)


def names(rows: Sequence[Row], points: float) -> list[str]:
    """The smallest and the fastest models that lose at most so many points, ours and of others."""
    exact = rows[0]
    close = [row for row in rows if 100 * against(row.right, exact.right)[0] >= -points]
    lines = [f"within {points:g} points of float:"]
    for what in ("smallest", "fastest"):
        for ours in (True, False):
            found = [row for row in close if (row.maker == OURS) == ours]
            who = "ours" if ours else "others'"
            lines.append(f"- {what} of {who}: {_told(_best(found, what), exact)}")
    return lines


def _best(rows: Iterable[Row], what: str) -> Row | None:
    """The smallest or the fastest."""
    by_bytes = what == "smallest"
    return min(rows, key=lambda r: r.bytes if by_bytes else r.latency_ms[0], default=None)


def _told(row: Row | None, exact: Row) -> str:
    if row is None:
        return "none"
    gain, *_ = against(row.right, exact.right)
    return (
        f"{row} ({row.bytes:,} bytes, {exact.bytes / row.bytes:.2f} x smaller; "
        f"{exact.latency_ms[0] / row.latency_ms[0]:.2f} x faster; {100 * gain:+.2f} points)"
    )


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
