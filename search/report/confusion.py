"""Confusion: which classes a model takes for which, and the recall of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from heapq import nsmallest
from unicodedata import combining, east_asian_width

from ..delivery.confusion import ClassResult
from ..delivery.manifest import Manifest
from .facts import Facts
from .markup import table, tag, text
from .svg import NARROW, both, label, picture
from .words import percent, share

DRAWN = 30  # most classes of which every pair is drawn; of more, the worst are listed
LISTED = 10
CELL, TALL = 40, 18  # pixels: widest cell, lowest row
HEADER = 26  # pixels above the rows
DIGIT, EDGE = 7.5, 4  # pixels of a digit in a cell, and around a number
NAME_PX = 150  # of a name in a table

Rows = Sequence[ClassResult]


def confusion(
    facts: Facts, manifest: Manifest, below: Callable[[str], str] = lambda split: ""
) -> str:
    """Right and wrong answers of a model by class, on the test split if it was read.

    Args:
        facts: of the run.
        manifest: of the model.
        below: split -> markup that stands below.
    """
    split, rows = ("test", manifest.test_classes)
    if not rows:
        split, rows = ("validation", manifest.classes)
    if not rows:
        return ""
    shares = manifest.test if split == "test" and manifest.test else manifest.figures
    most = max(rows, key=lambda row: row.images)
    words = (
        f"Answers of {facts.letter(manifest.key)} on the {split} split: accuracy "
        f"{share(shares, 'accuracy')}, balanced accuracy, which is the mean recall of the classes, "
        f"{share(shares, 'balanced_accuracy')}. Always answering {short(most.name, NAME_PX)} would "
        f"be right for {percent(most.images / sum(row.images for row in rows))} of the images."
    )
    shown = _figure(rows) if len(rows) <= DRAWN else _lists(rows)
    return "".join([tag("p", text(words), class_="note"), *shown, below(split)])


def _figure(rows: Rows) -> list[str]:
    caption = (
        "A row is a class, a column what the model says, by the number of that class. Blue is "
        "right, the more so the larger its share of the row; orange is taken for another class. "
        "On the right: the recall, which is the share that is right, and the number of images."
    )
    return [
        tag("figure", both(partial(confusion_chart, rows)), tag("figcaption", text(caption))),
    ]


def confusion_chart(rows: Rows, width: int) -> str:
    """Draw a confusion matrix, a row for each class with its recall."""
    wide = width > NARROW
    left, right = (210, 130) if wide else (104, 44)
    cell = min(CELL, (width - left - right) / len(rows))
    tall = max(TALL, min(cell, 30))
    height = HEADER + len(rows) * tall + 6
    end = left + cell * len(rows)
    parts = [label(end + 10, HEADER - 9, "recall", "axis")]
    every = 1 if cell >= TALL else 5
    for i in range(len(rows)):
        if i == 0 or (i + 1) % every == 0:
            middle = left + cell * (i + 0.5)
            parts.append(label(middle, HEADER - 9, i + 1, "tick", "middle"))
    for i, row in enumerate(rows):
        top = HEADER + i * tall
        base = top + tall / 2 + 4
        name = tag("tspan", text(short(row.name, left - 40)), data_tip=row.name)
        parts += [
            label(20, base, i + 1, "tick", "end"),
            tag("text", name, x=28, y=base, class_="class-name"),
            tag("rect", x=left, y=top, width=end - left, height=tall - 2, class_="empty-row"),
            *(_cell(rows, i, j, left + cell * j, top, cell, tall) for j in _answered(row)),
            label(end + 10, base, _recall(row, wide), "tick"),
        ]
    return picture(width, height, "Confusion matrix", *parts)


def _cell(rows: Rows, i: int, j: int, x: float, y: float, cell: float, tall: float) -> str:
    """What is said of a class: the number of images, darker for a larger share."""
    row, n = rows[i], rows[i].answers[str(j)]
    said = "are right" if i == j else f"are taken for {rows[j].name}"
    drawn = tag(
        "rect",
        x=x,
        y=y,
        width=cell - min(2.0, cell / 5),
        height=tall - 2,
        fill_opacity=f"{0.15 + 0.6 * math.sqrt(n / row.images):.2f}",
        class_="right" if i == j else "wrong",
        data_tip=f"{row.name}: {n} of {row.images} {said}",
    )
    if DIGIT * len(str(n)) + EDGE > cell:
        return drawn
    return drawn + label(x + cell / 2 - 1, y + tall / 2 + 3, n, "count", "middle")


def _answered(row: ClassResult) -> list[int]:
    return [int(answer) for answer in row.answers]


def _recall(row: ClassResult, wide: bool) -> str:
    if row.recall is None:
        return "no image" if wide else "-"
    return f"{row.recall:.0%}" + (f" of {row.images:,}" if wide else "")


def _lists(rows: Rows) -> list[str]:
    """Of many classes: the pairs and the classes with the most mistakes; all are folded away."""
    mistakes = [(-n, i, int(j)) for i, row in enumerate(rows) for j, n in row.answers.items()]
    worst = nsmallest(LISTED, (one for one in mistakes if one[1] != one[2]))
    pairs = [
        [_name(rows[i]), _name(rows[j]), f"{-n:,}", percent(-n / rows[i].images)]
        for n, i, j in worst
    ]
    seen = [(row.recall, i) for i, row in enumerate(rows) if row.recall is not None]
    lowest = [_line(rows[i]) for _, i in nsmallest(LISTED, seen)]
    header = ("class", "recall", "images")
    return [
        tag("div", table(("class", "taken for", "images", "of its images"), pairs), class_="card")
        if pairs
        else tag("p", "No image was taken for another class.", class_="note"),
        tag(
            "div",
            tag("h4", f"The {len(lowest)} classes of the lowest recall"),
            table(header, lowest),
            tag(
                "details",
                tag("summary", f"all {len(rows)} classes"),
                table(header, [_line(row) for row in rows]),
            ),
            class_="card",
        ),
    ]


def _line(row: ClassResult) -> list[str]:
    return [_name(row), _recall(row, wide=False), f"{row.images:,}"]


def _name(row: ClassResult) -> str:
    return tag("span", text(short(row.name, NAME_PX)), data_tip=row.name)


def short(name: str, room: float) -> str:
    """A name cut to about so many pixels of small text; what cannot be printed is replaced.

    >>> short("cat", 80), short("a very long name of a class", 80)
    ('cat', 'a very lon…')
    """
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    taken = 0.0
    for i, c in enumerate(clean):
        taken += _pixels(c)
        if taken > room:
            return clean[: max(1, i - 1)] + "…"
    return clean


def _pixels(c: str) -> float:
    """Width of a character at 12 pixels, rather too much than too little."""
    if combining(c):
        return 0.0
    if east_asian_width(c) in "WF":
        return 13.0
    if c in "MWm@%":
        return 12.0
    return 9.0 if c.isupper() or c in "w&_" else 6.8
