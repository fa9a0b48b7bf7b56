"""Page: the report as one self-contained HTML file."""

from __future__ import annotations

import shlex
from functools import partial

from ..counted import counted
from ..delivery.manifest import Manifest
from ..pareto.objectives import spelled
from ..run.stage import Stage
from .bars import choice_rows
from .blocks import blocks
from .charts import progress_chart
from .choices import axes
from .commands import commands
from .confusion import confusion
from .exits import exits
from .facts import Facts
from .front import SIZES, front_chart, size_edges
from .images import images
from .markup import document, table, tag, text
from .mistakes import thumbnails
from .models import faster, ladder, models, runtime_words
from .notes import notes, trust
from .profiles import profiles
from .promises import promises
from .style import SCRIPT, STYLE
from .svg import both
from .targets import targets
from .words import duration, mb, ms, number, percent

ENDINGS = {
    "trials": "The search ended when all trials were made.",
    "scored": "The search ended when enough candidates were scored.",
    "time": "The search ended when its time was up.",
    "stagnation": "The search ended when nothing better was found for a while.",
    "exhausted": "The search ended when every candidate was tried.",
}


def page(facts: Facts) -> str:
    """The whole report."""
    name = facts.folder.path.resolve().name
    if device := facts.folder.device:
        name = f"{name} on {device}"
    body = [
        *_head(facts, name),
        *_front(facts),
        *models(facts),
        *_answers(facts),
        *exits(facts),
        *promises(facts),
        *profiles(facts),
        *ladder(facts),
        *targets(facts),
        *images(facts),
        *_progress(facts),
        *_choices(facts),
        *blocks(facts),
        tag("h2", "What to keep in mind"),
        tag("ul", *(tag("li", text(note)) for note in notes(facts))),
        *commands(facts),
        *_stages(facts),
        *_reproduce(facts),
    ]
    return document(f"{name}: vitpareto", body, STYLE, SCRIPT)


def _head(facts: Facts, name: str) -> list[str]:
    words = (
        f"Space {facts.space.name}, images {facts.config.data.label}, device "
        f"{facts.config.device_label} ({device_words(facts)}): "
        f"{len(facts.evaluations):,} of {_big(facts.space.size)} candidates scored, "
        f"{len(facts.front)} on the front, {len(facts.delivered)} delivered."
    )
    boxes = (
        tag("div", tag("b", text(b)), tag("span", text(s)), class_="tile") for b, s in tiles(facts)
    )
    return [
        tag("h1", text(name)),
        tag("p", text(words), class_="lead"),
        tag("div", *boxes, class_="tiles"),
    ]


def device_words(facts: Facts) -> str:
    """Processor, GPU, runtime and threads of the device."""
    device = facts.cost_model.identity
    host = f" in {device['host']}" if device.get("host") else ""
    gpu = f"{device['gpu']} beside " if device.get("gpu") else ""
    return (
        f"{gpu}{device.get('processor', 'unknown processor')}, {device.get('runtime')} "
        f"{device.get('version', '')}{host}, {counted(device.get('threads', 1), 'thread')}"
    )


def tiles(facts: Facts) -> list[tuple[str, str]]:
    """Figures at the top of the page, each with a caption; first of the model that is exported."""
    if not facts.shown_models:
        return []
    taken, best, fastest = facts.taken, facts.best, facts.shown_models[0]
    found = [
        (_right(facts, taken), _taken_words(facts)),
        (
            ms(taken.figures.calibrated_ms),
            f"{_run_of(facts, taken)}, in {mb(taken.figures.size_mb)}{_speeds(facts, taken)}",
        ),
    ]
    if best.key != taken.key:
        words = f"{_split(facts, best)} of {facts.letter(best.key)}, the best on the validation "
        found.append((_right(facts, best), f"{words}split, in {ms(best.figures.calibrated_ms)}"))
    if fastest.key not in (taken.key, best.key):
        own = percent(fastest.figures.interval(facts.goal)[1])
        words = f"{_run_of(facts, fastest)}, the fastest, with {own} on validation"
        found.append((ms(fastest.figures.calibrated_ms), words))
    verified = sum(m.verified for m in facts.shown_models)
    return [*found, (f"{verified} of {len(facts.shown_models)}", verified_words(facts))]


def _right(facts: Facts, manifest: Manifest) -> str:
    """How right a model is, on the test split if that was read."""
    return percent((manifest.test or manifest.figures).interval(facts.goal)[1])


def _split(facts: Facts, manifest: Manifest) -> str:
    """Split and name of that share."""
    return f"{'test' if manifest.test else 'validation'} {spelled(facts.goal)}"


def _taken_words(facts: Facts) -> str:
    """Which model is exported, and how right it is beside what it is compared with."""
    taken = facts.taken
    found = [f"it has {percent(taken.figures.interval(facts.goal)[1])}"] if taken.test else []
    found += [f"the {name} has {percent(share)}" for name, share in facts.yardsticks.items()]
    beside = f", where {' and '.join(found)}" if found else ""
    return (
        f"{_split(facts, taken)} of {facts.letter(taken.key)}, which vitpareto export takes: the "
        f"fastest within a point of the best on the validation split{beside}"
    )


def _run_of(facts: Facts, manifest: Manifest) -> str:
    """A run of a model, measured or predicted."""
    how = f", as predicted for {manifest.device.name}," if manifest.is_predicted else ""
    return f"a run{how} of {facts.letter(manifest.key)}"


def verified_words(facts: Facts) -> str:
    """What is counted as verified, and on which machine."""
    elsewhere = next((m for m in facts.shown_models if m.is_predicted or m.kit), None)
    if elsewhere is None:
        return "delivered models verified on the device"
    waiting = any(m.is_predicted for m in facts.shown_models)
    others = "; the others are predicted for it" if waiting else ""
    return f"delivered models verified on {elsewhere.machine}{others}"


def _speeds(facts: Facts, manifest: Manifest) -> str:
    """How much faster a model is than the references, first in the run's own runtime."""
    if not facts.references:
        return ""
    first, *others = (
        f"{faster(row, manifest)} as fast as the {facts.origin} in float32 in {row['runtime']}"
        for row in facts.references[:1]
    )
    others += [f"{faster(row, manifest)} in {runtime_words(row)}" for row in facts.references[1:]]
    return f", {'; '.join([first, *others])}"


def _front(facts: Facts) -> list[str]:
    edges = size_edges([e.metrics["size_mb"] for e in facts.evaluations])
    ramp = "".join(tag("i", class_=f"s{i}") for i in range(SIZES))
    words = f"size {mb(edges[0])} or less … over {mb(edges[-1])}" if edges else "size"
    marks = [tag("span", ramp, " ", text(words), class_="ramp")]
    if facts.measured:
        marks.append(tag("span", tag("i", class_="diamond"), "delivered: trained, measured"))
    for state in dict.fromkeys(m.state for m in facts.shown_models if not m.verified):
        marks.append(tag("span", tag("i", class_="diamond hollow"), text(state)))
    if facts.baselines:
        marks.append(tag("span", tag("i", class_="square"), "baseline"))
    squares = (
        f"Squares are the {facts.origin} without further training. "
        if facts.baselines and not facts.ladder
        else ""
    )
    estimated = "accuracy estimated on the search split"
    if facts.refresh.models:
        estimated = (
            f"accuracy forecast, and moved by what {counted(facts.refresh.models, 'model')} became"
        )
    caption = (
        f"Each dot is a candidate as the search saw it: {estimated}, "
        f"latency predicted. {_stair(facts)} A dotted line leads from where the search "
        "saw a model to what its training and the device made of it, on the validation split, with "
        "its 95% interval. All latencies are at the speed that the machine had when it was "
        f"calibrated. {squares}Hover or touch to see more."
    )
    return [
        tag("h2", "The front"),
        tag(
            "figure",
            tag("div", *marks, class_="legend"),
            both(partial(front_chart, facts)),
            tag("figcaption", caption),
        ),
    ]


def _stair(facts: Facts) -> str:
    """What the stair is, and why dots of the front can lie below it."""
    seen = (facts.goal, "latency_ms")
    more = [o.name for o in facts.objectives if o.traded and o.name not in seen]
    if not more:
        return "The stair is their front."
    others = " or ".join(spelled(name.removesuffix("_mb").removesuffix("_mj")) for name in more)
    return (
        f"Ringed dots are on the front, and the stair is the best {spelled(facts.goal)} at each "
        f"latency: dots of the front below it have a better {others}."
    )


def _answers(facts: Facts) -> list[str]:
    """What every model takes for what; those of all but the best are folded away."""
    ordered = sorted(facts.shown_models, key=lambda m: -m.figures.interval(facts.goal)[1])
    shown = [
        (m, markup)
        for m in ordered
        if (markup := confusion(facts, m, partial(thumbnails, facts, m.key)))
    ]
    if not shown:
        return []
    others = (
        tag("details", tag("summary", f"the same of {facts.letter(m.key)}"), markup)
        for m, markup in shown[1:]
    )
    return [tag("h2", "Which classes are confused"), shown[0][1], *others]


def _progress(facts: Facts) -> list[str]:
    results = facts.stages.get(Stage.SEARCH, {})
    ended = ENDINGS.get(results.get("ended by", ""), "")
    caption = (
        "Hypervolume: the share of the space between the largest network, or the limits, and the "
        f"smallest one that the front dominates. {ended}"
    )
    return [
        tag("h2", "How the search went"),
        tag("figure", both(partial(progress_chart, facts)), tag("figcaption", text(caption))),
    ]


def _choices(facts: Facts) -> list[str]:
    varied = axes(facts) if len(facts.evaluations) > 2 else []
    if not varied:
        return []
    words = (
        "The thin bar is every scored candidate, the thick one the front. On the left: how much of "
        "the differences in accuracy and latency goes with this choice alone. A search does not "
        "sample evenly, so this describes what was tried and proves no cause."
    )
    return [
        tag("h2", "What the front prefers"),
        tag("p", words, class_="note"),
        tag("div", choice_rows(varied), class_="card"),
    ]


def _stages(facts: Facts) -> list[str]:
    total = sum(results["seconds"] for results in facts.stages.values())
    rows = [
        [
            text(name),
            duration(results["seconds"]),
            percent(results["seconds"] / (total or 1)),
            f"{results['peak_memory_mb']:,} MB",
            ", ".join(
                f"{text(k)} {text(number(v))}"
                for k, v in results.items()
                if k not in ("seconds", "peak_memory_mb")
            ),
        ]
        for name, results in facts.stages.items()
    ]
    rows.append([tag("b", "all"), tag("b", duration(total)), "", "", ""])
    return [
        tag("h2", "Time and memory"),
        table(("stage", "time", "share", "peak memory", "results"), rows, wrap=4),
    ]


def _reproduce(facts: Facts) -> list[str]:
    about = facts.environment
    command = shlex.join(["vitpareto", *about["command"][1:]])
    machine = about["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    words = (
        f"Started {about['started']} on {machine['processor']} ({machine['cores']} cores, "
        f"{machine['isa']}), {about['platform']}, Python {about['python']}. {versions}. "
        f"Seed {facts.config.search.seed}, split seed {facts.config.data.seed}."
    )
    if facts.proxy:
        words = f"{words} {trust(facts)}"
    return [
        tag("h2", "Reproduce"),
        tag("p", text(words), class_="note"),
        tag("pre", text(command)),
        tag(
            "details",
            tag("summary", "configuration"),
            tag("pre", text(facts.folder.config.read_text("utf-8"))),
        ),
        tag(
            "details",
            tag("summary", "search space"),
            tag("pre", text(facts.folder.space.read_text("utf-8"))),
        ),
    ]


def _big(n: int) -> str:
    """Size of a space: exact while it is short.

    >>> _big(12_345), _big(1_828_915_200), _big(10**30)
    ('12,345', '1.8 billion', '1.0e+30')
    """
    for one, name in ((10**9, "billion"), (10**6, "million")):
        if one <= n < 1000 * one:
            return f"{n / one:.1f} {name}"
    return f"{n:,}" if n < 10**6 else f"{n:.1e}"
