"""Crossing: the models and fronts of several devices, each on all of them, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from ..run.crossing import Crossed, Crossing, Excess
from .facts import Facts
from .markup import table, tag, text
from .words import ms, percent

SLIGHT = 0.005  # relative difference of latencies that is called none
SAME = 0.0005  # difference of accuracies, likewise


def crossing_section(crossing: Crossing, sides: Mapping[str, Facts]) -> list[str]:
    """The delivered models on every device, what one for all costs, and the fronts crossed.

    Args:
        crossing: of the run.
        sides: facts of the run on each device, by name.
    """
    return [
        tag("h2", "One model on every device"),
        tag("p", text(one_for_all_words(crossing, sides)), class_="note"),
        table(("model", *sides), [_row(key, crossing, sides) for key in crossing.models]),
        tag(
            "p",
            "Accuracy on the validation split, and latency on that device: measured there, or with "
            "~ as its cost model predicts it. Bold: no other model is faster there and as "
            "accurate. A star: what one would take for that device alone, the fastest within a "
            "point of the best.",
            class_="note",
        ),
        *_fronts(crossing),
    ]


def one_for_all_words(crossing: Crossing, sides: Mapping[str, Facts]) -> str:
    """What to take if all devices run the same model, and what each pays for that."""
    if not crossing.one_for_all:
        return "No model was delivered for all of them."
    one = crossing.models[crossing.one_for_all]
    costs = (
        f"on {name} {_excess_words(excess, _chosen(crossing, sides, name), one[name].chosen)}"
        for name, excess in crossing.excess.items()
    )
    return f"If all run the same model, it is {crossing.one_for_all}: {'; '.join(costs)}."


def _excess_words(excess: Excess, alone: str, chosen: bool = False) -> str:
    """What a device pays beside the model that one would take for it alone.

    >>> _excess_words(Excess(0.25, -0.01), "A")
    'it is 25% slower than A and 1.0 points less accurate'
    >>> _excess_words(Excess(0.0, 0.0), "A")
    'it is as good as A'
    """
    if chosen:
        return f"it is {alone}"
    words: list[str] = []
    if abs(excess.slower) > SLIGHT:
        words.append(f"{abs(excess.slower):.0%} {'slower' if excess.slower > 0 else 'faster'} than")
    if abs(excess.accuracy) > SAME:
        more = "more" if excess.accuracy > 0 else "less"
        words.append(f"{100 * abs(excess.accuracy):.1f} points {more} accurate")
    if not words:
        return f"it is as good as {alone}"
    if len(words) == 1 and "accurate" in words[0]:
        return f"it is {words[0]} than {alone}"
    return f"it is {' and '.join([f'{words[0]} {alone}', *words[1:]])}"


def _chosen(crossing: Crossing, sides: Mapping[str, Facts], name: str) -> str:
    """The model that one would take for a device alone, in words."""
    chosen = next(m[name] for m in crossing.models.values() if name in m and m[name].chosen)
    return f"{sides[name].letter(chosen.key)}, which one would take for it alone"


def _row(key: str, crossing: Crossing, sides: Mapping[str, Facts]) -> list[str]:
    by_device = crossing.models[key]
    one = " (one for all)" if key == crossing.one_for_all else ""
    cells = (
        _cell(by_device[name], facts) if name in by_device else text("not delivered for it")
        for name, facts in sides.items()
    )
    return [tag("span", key, class_="key") + text(one), *cells]


def _cell(model: Crossed, facts: Facts) -> str:
    known = "~" if model.state.startswith("predicted") else ""
    words = f"{percent(model.accuracy)}, {known}{ms(model.latency_ms)}{' *' * model.chosen}"
    shown = tag("b", text(words)) if model.on_front else text(words)
    return f"{tag('span', facts.letter(model.key), class_='badge')} {shown}"


def _fronts(crossing: Crossing) -> list[str]:
    rows = [
        [
            text(front.chosen_for),
            text(front.on),
            str(front.candidates),
            str(front.on_both),
            text(f"{front.median_slower:.0%}"),
            text(f"{front.most_slower:.0%}"),
        ]
        for front in crossing.fronts
    ]
    if not rows:
        return []
    header = ("front for", "run on", "candidates", "on its front, too", "slower", "at most")
    return [
        tag("h2", "The front for one device on another"),
        table(header, rows),
        tag(
            "p",
            "All scored candidates as the search saw them. Slower is beside the fastest candidate "
            "for the other device that is as accurate; the middle one of the front, and the worst.",
            class_="note",
        ),
    ]
