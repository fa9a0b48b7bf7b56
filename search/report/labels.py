"""Labels: words beside the marks of a picture, where they cover nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LETTER, LINE = 6.5, 13.0  # pixels of a letter in a name, and of a line
ROWS = 6  # lines above or below its mark to which a name can move


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the picture that is taken, in pixels from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: Box) -> float:
        """Area of both, square pixels."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        tall = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(wide, 0.0) * max(tall, 0.0)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where words can stand: they begin, or with the anchor "end" end, at a point of their line."""

    x: float
    y: float
    anchor: str

    def box(self, words: str, letter: float = LETTER, line: float = LINE) -> Box:
        """What words take there.

        Args:
            words: in one line.
            letter: its width, pixels.
            line: its height, pixels.
        """
        wide = letter * len(words)
        left = self.x - wide if self.anchor == "end" else self.x
        return Box(left, self.y - 0.8 * line, left + wide, self.y + 0.2 * line)


def mark(x: float, y: float, reach: float) -> Box:
    """What a mark takes that reaches so far to all sides."""
    return Box(x - reach, y - reach, x + reach, y + reach)


def walls(width: float, height: float) -> list[Box]:
    """What lies outside of a picture."""
    far = 1e6
    return [
        *(Box(-far, -far, 0, far), Box(width, -far, far, far)),
        *(Box(-far, -far, far, 0), Box(-far, height, far, far)),
    ]


def around(x: float, y: float, reach: float, anchor: str) -> Iterator[Spot]:
    """Spots for the name of a mark, the nearest first: above it, below it, and farther away.

    Args:
        x: of the middle of the mark.
        y: of its middle.
        reach: of the mark.
        anchor: of the side that is tried first.
    """
    sides = [(x - reach, "start"), (x + reach, "end")]
    if anchor == "end":
        sides.reverse()
    for row in range(ROWS):
        for height in (y - reach - 5 - LINE * row, y + reach + 12 + LINE * row):
            for at, side in sides:
                yield Spot(at, height, side)


def corners(x: float, y: float) -> list[Spot]:
    """Spots for the letter of a model, beside its middle and not on its interval."""
    sides = ((x + 9, "start"), (x - 9, "end"))
    return [Spot(at, height, anchor) for height in (y - 8, y + 19) for at, anchor in sides]


def put(
    words: str,
    spots: Iterable[Spot],
    taken: list[Box],
    letter: float = LETTER,
    line: float = LINE,
) -> Spot:
    """Choose the first spot where words cover nothing, or else the one where they cover least.

    Args:
        words: in one line.
        spots: at least one, the best first.
        taken: what must not be covered, to which the words are added.
        letter: width of a letter, pixels.
        line: height of a line, pixels.
    """

    def covered(spot: Spot) -> float:
        return sum(box.shared(other) for box in [spot.box(words, letter, line)] for other in taken)

    tried = [*spots]
    found = next((s for s in tried if covered(s) == 0), None) or min(tried, key=covered)
    taken.append(found.box(words, letter, line))
    return found
