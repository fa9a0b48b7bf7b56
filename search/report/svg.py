"""SVG: parts that all pictures share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from .markup import tag, text
from .scale import Scale

WIDE, NARROW = 1000, 360  # pixels for which a picture is drawn; the page shows the one that fits


def label(x: float, y: float, words: object, class_: str = "", anchor: str = "start") -> str:
    """A line of text at a point."""
    return tag("text", text(words), x=x, y=y, class_=class_ or None, text_anchor=anchor)


def path(points: list[tuple[float, float]], class_: str) -> str:
    """Straight lines from point to point."""
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=d, class_=class_)


def square(x: float, y: float, class_: str, tip: str) -> str:
    """A square around a point, with words that show when it is pointed at."""
    return tag("rect", x=x - 5, y=y - 5, width=10, height=10, class_=class_, data_tip=tip)


def diamond(x: float, y: float, class_: str, tip: str) -> str:
    """A diamond around a point, likewise, which the keyboard reaches, too."""
    d = f"M{x:.1f} {y - 9:.1f}l9 9l-9 9l-9 -9z"
    return tag("path", d=d, class_=class_, data_tip=tip, tabindex=0)


def steps(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of a stair through points: along, then up.

    >>> steps([(0, 1), (2, 3)])
    [(0, 1), (2, 1), (2, 3)]
    """
    corners = points[:1]
    for (_, y0), (x1, y1) in pairwise(points):
        corners += [(x1, y0), (x1, y1)]
    return corners


def frame(x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    """Grid, ticks and labels of a plot."""
    parts: list[str] = []
    wide = x.end - x.start
    for tick in y.ticks(max(4, int((y.start - y.end) / 55))):
        parts.append(tag("line", x1=x.start, x2=x.end, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(label(x.start - 8, y(tick) + 4, f"{tick:g}", "tick", "end"))
    for tick in x.ticks(max(3, int(wide / 90))):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=y.start, y2=y.end, class_="grid"))
        parts.append(label(x(tick), y.start + 18, f"{tick:g}", "tick", "middle"))
    parts.append(label(x.end, y.start + 38, x_label, "axis", "end"))
    parts.append(label(x.start - 8, y.end - 10, y_label, "axis"))
    return "".join(parts)


def picture(width: float, height: float, title: str, *children: str) -> str:
    """A whole picture that scales with the page."""
    size = f"0 0 {width:g} {height:g}"
    return tag("svg", *children, viewBox=size, role="img", aria_label=title)


def both(draw: Callable[[int], str]) -> str:
    """A picture for wide and one for narrow screens; the style sheet shows one of them."""
    return tag("div", draw(WIDE), class_="wide") + tag("div", draw(NARROW), class_="narrow")
