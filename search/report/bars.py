"""Bars: shares of a whole, in HTML so that they fit any width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..delivery.manifest import Manifest
from .choices import Axis
from .facts import Facts
from .markup import tag, text
from .words import ms, percent

KINDS = ("stem", "mixer", "mlp", "downsample", "head", "rest")
LABELED = 0.09  # share from which a part has room for its name
SHOWN = 14  # choices; the others are folded away


def bar(parts: Iterable[tuple[str, float, str, str]], class_: str = "") -> str:
    """A bar of parts that add up to its length.

    Args:
        parts: label, share, class and tip of each.
        class_: of the bar.
    """
    return tag(
        "div",
        *(
            tag(
                "span",
                text(label if share >= LABELED else ""),
                style=f"flex:{share:.4f}",
                class_=kind,
                data_tip=tip,
            )
            for label, share, kind, tip in parts
            if share > 0
        ),
        class_=f"bar {class_}".strip(),
    )


def time_bar(facts: Facts, manifest: Manifest) -> str:
    """Promised latency of a delivered model by kind of sub-block, as a bar and a legend."""
    spent, total = spent_ms(facts, manifest), manifest.promised.latency_ms
    words = {kind: f"{kind} {ms(took)}, {percent(took / total)}" for kind, took in spent.items()}
    drawn = bar(("", took / total, f"k-{kind}", words[kind]) for kind, took in spent.items())
    names = (tag("span", tag("i", class_=f"k-{kind}"), text(words[kind])) for kind in spent)
    return drawn + tag("div", *names, class_="legend under")


def spent_ms(facts: Facts, manifest: Manifest) -> dict[str, float]:
    """Milliseconds of each kind of sub-block, which add up to the promised latency.

    The cost model gives the shares. A promise that was measured is another than their sum.
    """
    candidate, model = facts.candidates[manifest.key], facts.cost_model
    spent: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for block, _, took in model.sub_blocks(candidate):
        spent[block.kind] += max(0.0, took)
    spent["rest"] += max(0.0, model.rest_ms(candidate))
    scale = manifest.promised.latency_ms / (sum(spent.values()) or 1.0)
    return {kind: scale * took for kind, took in spent.items() if took > 0}


def choice_rows(axes: Sequence[Axis]) -> str:
    """A row for each choice: how much it explains, and how often each value is used."""
    rows = [_choice(axis) for axis in axes]
    more = rows[SHOWN:]
    folded = tag("details", tag("summary", f"{len(more)} more choices"), *more) if more else ""
    return "".join(rows[:SHOWN]) + folded


def _choice(axis: Axis) -> str:
    weights = "".join(
        tag(
            "div",
            tag("span", text(metric)),
            tag("i", tag("b", style=f"width:{100 * share:.0f}%")),
            tag("span", f"{share:.0%}"),
            class_="weight",
        )
        for metric, share in axis.explains.items()
    )
    bars = [
        bar(
            (
                (value, share, f"v{i % 6}", f"{axis.name} {value}: {percent(share)} of {who}")
                for i, (value, share) in enumerate(zip(axis.values, shares, strict=True))
            ),
            class_,
        )
        for who, class_, shares in (
            ("all scored", "thin", axis.scored),
            ("the front", "", axis.front),
        )
    ]
    name = tag("h4", text(axis.name))
    return tag("div", tag("div", name, weights), tag("div", *bars), class_="choice")
