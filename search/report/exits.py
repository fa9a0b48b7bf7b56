"""Exits: accuracy of early answers against the mean time that they take, of each such model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..counted import counted
from ..delivery.claims import Exits, Metrics
from ..delivery.leaving import reach_of
from ..delivery.manifest import Manifest
from ..pareto.objectives import spelled
from .facts import Facts
from .labels import around, corners, mark, put, walls
from .markup import table, tag, text
from .scale import Scale
from .svg import NARROW, both, diamond, frame, label, path, picture, square
from .words import ms, percent

WHOLE = "nobody leaves"
ABOUT = (
    "A model answers early where it is sure, so that its latency is a mean: the shares of the "
    "validation images that leave at each exit, times the measured latency of each part. From "
    "which confidence on exits answer was chosen on these images, so what that is worth shows on "
    "the test images. The line is what other thresholds would come to, the diamond the model as "
    "it is delivered, the square its network without exits. Letters are the other models."
)


def exits(facts: Facts) -> list[str]:
    """What exits bring, for each delivered model that has some; nothing where none has."""
    cards = [_card(facts, m, m.exits, m.metrics) for m in facts.delivered if m.exits and m.metrics]
    about = tag("p", text(ABOUT), class_="note")
    return [tag("h2", "Early exits"), about, *cards] if cards else []


def _card(facts: Facts, manifest: Manifest, known: Exits, metrics: Metrics) -> str:
    letter, speed, goal = facts.letter(manifest.key), metrics.speed, spelled(facts.goal)
    whole_ms = (known.whole_ms or 0.0) * speed
    words = (
        f"{letter} takes {ms(metrics.calibrated_ms)} on average over the validation images, "
        f"{ms((known.low_ms or 0.0) * speed)} to {ms((known.high_ms or 0.0) * speed)} over others "
        f"like them (95%). Its network without exits takes {ms(whole_ms)}."
    )
    if known.test_ms and manifest.test:
        share = percent(manifest.test.interval(facts.goal)[1])
        words += f" Test images take {ms(known.test_ms * speed)}, with {share} {goal}."
    last = max((n for n, share in enumerate(known.shares or ()) if share > 0), default=0)
    if last < len(known.after):
        words += (
            f" No validation image runs past block {known.after[last]}: what follows it only takes "
            "size and memory."
        )
    return tag(
        "div",
        tag("p", text(words), class_="note"),
        both(partial(exit_chart, facts, manifest, known, metrics)),
        _parts(known, speed),
        class_="card",
    )


def _parts(known: Exits, speed: float) -> str:
    """A row for each part."""
    rows: list[list[str]] = []
    after = [*(f"after {counted(n, 'block')}" for n in known.after), "at the end"]
    limits = [*map(_limit, known.above), ""]
    tested = known.test_shares or [None] * len(after)
    for place, limit, share, test, part_ms in zip(
        after, limits, known.shares or (), tested, known.part_ms or (), strict=False
    ):
        on_test = "not read" if test is None else percent(test)
        cells = (place, limit, percent(share), on_test, ms(part_ms * speed))
        rows.append([text(cell) for cell in cells])
    header = ("answers", "if surer than", "validation images", "test images", "this part takes")
    return table(header, rows)


def _limit(above: float) -> str:
    """A threshold in words.

    >>> _limit(0.0), _limit(0.875), _limit(2.0)
    ('always', '87.5%', 'never')
    """
    return "always" if above <= 0 else percent(above) if above <= 1 else "never"


def _mean_ms(shares: Sequence[float], part_ms: Sequence[float]) -> float:
    """Mean latency of images of which each part answers a share."""
    return sum(share * took for share, took in zip(reach_of(shares), part_ms, strict=True))


def exit_chart(facts: Facts, manifest: Manifest, known: Exits, metrics: Metrics, width: int) -> str:
    """Draw accuracy against mean latency for all thresholds, beside the other models."""
    height, goal = 320 if width > NARROW else 280, facts.goal
    part_ms = [took * metrics.speed for took in known.part_ms or ()]
    line = sorted((_mean_ms(p["shares"], part_ms), 100 * p["accuracy"]) for p in known.curve)
    whole = (known.whole_ms or 0.0) * metrics.speed, 100 * known.whole_accuracy
    here = metrics.calibrated_ms, 100 * metrics.interval(goal)[1]
    others = [m for m in facts.shown_models if m.key != manifest.key]
    beside = [(m.figures.calibrated_ms, 100 * m.figures.interval(goal)[1]) for m in others]
    every = [*line, whole, here, *beside]
    x = Scale.around([a for a, _ in every], 52, width - 16)
    y = Scale.around([b for _, b in every], height - 48, 30, log=False)
    y = Scale(max(0.0, y.low), min(100.5, y.high), y.start, y.end)
    taken = walls(width, height)
    marks = [(x(a), y(b)) for a, b in (whole, here, *beside)]
    taken += [mark(*at, 7) for at in marks]
    parts = [frame(x, y, "mean latency, ms", f"{spelled(goal)}, %")]
    parts.append(path([(x(a), y(b)) for a, b in line], "front"))
    at_whole, at_model = marks[:2]
    parts.append(square(*at_whole, "baseline", f"{WHOLE}: {whole[1]:.1f}%, {ms(whole[0])}"))
    words = f"{facts.letter(manifest.key)}: {here[1]:.1f}%, {ms(here[0])} on average"
    kind = "model" if manifest.verified else "model unverified"
    parts.append(diamond(*at_model, kind, words))
    for m, at in zip(others, marks[2:], strict=True):
        parts.append(tag("circle", cx=at[0], cy=at[1], r=4, class_="dot s2"))
        spot = put(facts.letter(m.key), corners(*at), taken, 11, 15)
        parts.append(label(spot.x, spot.y, facts.letter(m.key), "letter", spot.anchor))
    spot = put(WHOLE, around(*at_whole, 6, "end" if at_whole[0] > width / 2 else "start"), taken)
    parts.append(label(spot.x, spot.y, WHOLE, "baseline-label", spot.anchor))
    return picture(width, height, f"{spelled(goal).capitalize()} against mean latency", *parts)
