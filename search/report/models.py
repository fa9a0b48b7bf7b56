"""Models: those that were delivered, their promises, and models to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...cost_models.tables.anchors import speed_words
from ..delivery.claims import Check, Metrics
from ..delivery.history import history_words
from ..delivery.kernel_inventory import Inventory
from ..delivery.manifest import Manifest
from ..pareto.objectives import spelled
from .bars import time_bar
from .cumulative import cumulative
from .drawing import draw
from .facts import Facts
from .markup import table, tag, text, yes
from .rewrites import rewrites
from .svg import both
from .words import interval, latency, mb, ms, number, precisions, read_as, share


def models(facts: Facts) -> list[str]:
    """The delivered models as a table, and a card for each."""
    cards = (_card(facts, m) for m in facts.delivered)
    return [tag("h2", "Delivered models"), *model_table(facts), *cards]


def model_table(facts: Facts) -> list[str]:
    """The delivered models as a table, with what is to know of it."""
    name = spelled(facts.goal)
    header = (
        "",
        f"test {name}",
        f"validation {name}",
        "latency",
        "promised",
        "speed",
        "size",
        "memory",
        "verified",
    )
    rows = [
        [
            tag("span", facts.letter(m.key), class_="badge"),
            text(share(m.test, facts.goal) if m.test else "not read"),
            text(share(m.figures, facts.goal)),
            text("not measured") if m.is_predicted else _latency(m.figures),
            text(ms(m.promised.latency_ms)),
            text(speed(facts, m)),
            text(mb(m.figures.size_mb)),
            text(mb(m.figures.peak_memory_mb)),
            text(m.state) if m.is_predicted or m.kit else yes(m.verified),
        ]
        for m in facts.shown_models
    ]
    words = "The fastest first; accuracies with their 95% intervals."
    for m in facts.shown_models:
        if m.ladder:
            words += f" {facts.letter(m.key)} is {m.ladder} of the ladder, which no search found."
    if any(speed_words(m.measured().speed) for m in facts.measured):
        words += " Latencies and promises are at the speed that the machine had when it was "
        words += "calibrated; below them stands what was read while it had another."
    if facts.references:
        words += f" Speed is beside {_reference_words(facts)}."
    return [tag("p", text(words), class_="note"), table(header, rows)]


def _latency(metrics: Metrics) -> str:
    """A latency, and below it what was read where the machine had another speed."""
    read = read_as(metrics)
    below = f"<br>{tag('small', text(read))}" if read else ""
    return text(ms(metrics.calibrated_ms)) + below


def _reference_words(facts: Facts) -> str:
    """The references in each runtime in which they were measured, the run's own first."""
    first, *others = (
        f"{ms(row['latency_ms'])} and {mb(row['size_mb'])} in {runtime_words(row)}"
        for row in facts.references
    )
    beside = f" ({'; '.join(others)})" if others else ""
    return f"the {facts.origin} in float32, which takes {first}{beside}"


def runtime_words(row: Mapping[str, Any]) -> str:
    """Runtime of a reference, and that it is in int8 if it is.

    >>> runtime_words({"name": "start, int8", "runtime": "onnxruntime"})
    'onnxruntime with int8'
    """
    return row["runtime"] + " with int8" * row["name"].endswith("int8")


def speed(facts: Facts, manifest: Manifest) -> str:
    """Speed of a model relative to the reference, if that was measured."""
    if not facts.references:
        return "not known"
    return faster(facts.references[0], manifest)


def faster(row: Mapping[str, Any], manifest: Manifest) -> str:
    """Factor by which a model is faster than a row of the references."""
    return f"{row['latency_ms'] / manifest.figures.calibrated_ms:.1f}x"


def _card(facts: Facts, manifest: Manifest) -> str:
    key, promised, metrics = manifest.key, manifest.promised, manifest.metrics
    counts = {
        "parameters": f"{promised.params:,.0f}",
        "multiply-accumulates": f"{promised.macs / 1e6:,.2f} million",
        "folder": (facts.folder.pareto / key).relative_to(facts.folder.path).as_posix(),
        "kernels": ", ".join(manifest.kernels),
    }
    if manifest.ladder:
        counts["from the ladder"] = manifest.ladder
    if metrics and speed_words(metrics.speed):
        counts["latency"] = latency(metrics)
    if words := history_words(facts.history.get(key, ())):
        counts["measured"] = words
    if metrics and metrics.energy_mj is not None:
        counts["energy"] = f"{metrics.energy_mj:.3g} mJ a run above idle"
    names = precisions(facts.candidates[key])
    name = tag("span", facts.letter(key), class_="badge") + tag("span", key, class_="key")
    about = (tag("span", f"{text(k)} ", tag("b", text(v))) for k, v in counts.items())
    return tag(
        "div",
        tag("div", name, class_="head"),
        tag("div", *about, class_="facts"),
        both(partial(draw, facts.candidates[key])),
        *([tag("p", text(f"{names}."), class_="note")] if names else []),
        tag(
            "p",
            f"Where the promised {ms(promised.latency_ms)} go, in shares that the cost model sees:",
            class_="note",
        ),
        time_bar(facts, manifest),
        *_effects(manifest),
        *_ways(manifest),
        *_distill_token(manifest),
        _checks(manifest.checks),
        _operators(manifest.inventory),
        class_="card",
    )


WAYS = {
    "ptq": "in float, rounded after it (PTQ)",
    "qat": "rounded while it trained, bit by bit (QAT)",
    "direct": "rounded from its first step on (QAT)",
}


TOKEN = {
    "fused": "fused: the mean of both heads",
    "dropped": "dropped: the class head, without that token and its head",
}


def _effects(manifest: Manifest) -> list[str]:
    """What each stage of delivery did to it; nothing in runs that did not note it."""
    lines: list[str] = []
    for key, story in manifest.finalists.items():
        stages = "; ".join(f"{effect}{', undone' * effect.undone}" for effect in story.effects)
        of = f" of finalist {key}" if len(manifest.finalists) > 1 else ""
        words = (
            f"From training to the file{of}, {spelled(manifest.goal)} on the validation images: "
        )
        if stages:
            lines.append(tag("p", text(f"{words}{stages}."), class_="note"))
    return lines


def _ways(manifest: Manifest) -> list[str]:
    """The ways in which it was trained, if there were several."""
    if not manifest.ways:
        return []
    rows = [
        [
            text(WAYS[name]),
            text(share(trial, manifest.goal)),
            text(f"{trial.seconds:.0f} s"),
            yes(trial.delivered),
        ]
        for name, trial in manifest.ways.items()
    ]
    words = "Trained in several ways; the first is delivered that none below it beats by more than "
    words += "chance, on the validation images."
    header = ("trained", f"validation {spelled(manifest.goal)}", "in", "delivered")
    return [tag("p", text(words), class_="note"), table(header, rows)]


def _distill_token(manifest: Manifest) -> list[str]:
    """Both forms of a network with a distillation token."""
    if not manifest.distill_token:
        return []
    rows = [
        [text(TOKEN[name]), text(share(form, manifest.goal)), yes(form.delivered)]
        for name, form in manifest.distill_token.items()
    ]
    words = "The distillation token learned from the teacher alone. Both forms are as trained; one "
    words += "that is delivered without the token was trained a little more."
    header = ("answers", f"validation {spelled(manifest.goal)}", "delivered")
    return [tag("p", text(words), class_="note"), table(header, rows)]


def _checks(checks: Sequence[Check]) -> str:
    rows = [[text(c.name), yes(c.holds), text(number(c.found)), text(c.wanted)] for c in checks]
    return tag(
        "details",
        tag("summary", f"{sum(c.holds for c in checks)} of {len(checks)} checks hold"),
        table(("check", "holds", "found", "wanted"), rows),
    )


def _operators(inventory: Inventory | None) -> str:
    """Kernels of the file, and operators that other runtimes do not convert."""
    if inventory is None:
        return ""
    stored, executed = inventory.nodes, sum(inventory.executed.values())
    kernels = ", ".join(f"{n} {name}" for name, n in sorted(inventory.executed.items()))
    rows = [
        [
            text(name),
            text(", ".join(missing) or "none"),
            text(inventory.targets[name]["version"]),
        ]
        for name, missing in inventory.unsupported.items()
    ]
    return tag(
        "details",
        tag("summary", f"{stored} operators in the file, {executed} kernels when it runs"),
        tag("p", text(f"Kernels: {kernels}."), class_="note"),
        tag("p", text(f"Fused: {', '.join(inventory.fused) or 'nothing'}."), class_="note"),
        table(("other runtime", "operators that it does not take", "its version"), rows, wrap=1),
    )


def ladder(facts: Facts) -> list[str]:
    """Models before and after, if they were measured; and the start as it is, plain and int8."""
    start = facts.references if facts.config.start.model else []
    if not facts.ladder:
        return _beside(facts, "Before and after", start)
    plain = [row for row in facts.ladder if not row.get("rewrite")]
    return [
        *_beside(facts, "Before and after", plain),
        *cumulative(facts),
        *rewrites(facts),
        *_beside(facts, "The start, and nothing changed but its precision", start),
    ]


def _beside(facts: Facts, title: str, measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models that were timed in turn; nothing if none were."""
    if not measured:
        return []
    slowest = max(row["latency_ms"] for row in measured)

    def named(row: Mapping[str, Any]) -> str:
        letter = facts.delivered_as(row)
        delivered = f", delivered as {letter}" if letter else ""
        return f"{facts.shown_as(row['name'])}{delivered}"

    rows = [
        [
            text(named(row)),
            text(row["runtime"]),
            text(interval(row, facts.goal)),
            f"{ms(row['latency_ms'])} ({row['latency_p10_ms']:.3g} to {row['latency_p90_ms']:.3g})",
            f"{slowest / row['latency_ms']:.1f}x",
            ", ".join(f"{rate:,.0f}" for rate in row["throughput"].values()),
            mb(row["peak_memory_mb"]),
            mb(row["size_mb"]),
        ]
        for row in measured
    ]
    words = speed_words(measured[0].get("speed", 1.0))
    ran = f" It ran {words}; latencies are what they would be at it." if words else ""
    batches = ", ".join(map(str, measured[0]["throughput"]))
    header = (
        *("model", "runtime", spelled(facts.goal), "latency (10% to 90%)", "speed"),
        *(f"images/s at batch {batches}", "memory", "size"),
    )
    return [
        tag("h2", title),
        tag(
            "p",
            f"Timed in turn, so that whatever slowed the machine slowed all of them.{ran}",
            class_="note",
        ),
        table(header, rows),
    ]
