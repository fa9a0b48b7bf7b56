"""Page: the live view as HTML, in sections that the browser replaces as they change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...spaces.errors import VitParetoError
from ..config import load_config
from ..console import spoken
from ..delivery.manifest import manifests_so_far
from ..report.markup import document, table, tag, text, yes
from ..report.style import SCRIPT, STYLE
from ..report.words import duration, mb, ms, percent
from ..store.run_folder import RunPaths
from .scatter import scatter
from .state import State, read_state

LOST = (
    '<p id="lost" class="bad" hidden>'
    "`vitpareto watch` does not answer any more: start it again.</p>"
)

LIVE_STYLE = """
.track { height: 10px; border-radius: 5px; background: var(--line); overflow: hidden }
.track b { display: block; height: 100%; background: var(--calm) }
a { color: var(--accent-ink) }
.stages.card { list-style: none; padding: .3rem 1rem; margin: .5rem 0 0 }
.stages li { display: grid; grid-template-columns: 1.6rem 1fr auto; gap: .1rem .5rem;
  max-width: none; margin: 0; padding: .45rem 0; border-bottom: 1px solid var(--line) }
.stages li:last-child { border-bottom: 0 }
.stages .time { color: var(--soft); font-size: .9rem; text-align: right; max-width: 7.5rem }
.stages .mark { color: var(--good); font-weight: 700 }
.stages .now .mark { color: var(--accent-ink) }
.stages .coming b { color: var(--soft) }
.stages .track { grid-column: 2 / 4; margin-top: .25rem; height: 6px }
.stages .doing { grid-column: 2 / 4 }
.stages span { color: var(--soft) }
#log pre { white-space: pre-wrap; overflow-wrap: anywhere }
"""

LIVE_SCRIPT = """
const seen = {};
async function look() {
  let found = false;
  try {
    const answer = await fetch("now.json", { cache: "no-store" });
    const now = await answer.json();
    document.title = now.title;
    for (const [id, markup] of Object.entries(now.sections)) {
      if (seen[id] !== markup) document.getElementById(id).innerHTML = seen[id] = markup;
    }
    found = true;
  } catch (error) {}
  document.getElementById("lost").hidden = found;
  setTimeout(look, 2000);
}
setTimeout(look, 500);
"""

SECTIONS = ("head", "stages", "scored", "models", "log")
MARKS = {"done": ("\u2713", "done"), "now": ("\u25b8", "now"), "to come": ("", "coming")}


def page(paths: RunPaths) -> str:
    """The whole page."""
    now = sections(paths)
    body = [tag("section", markup, id=name) for name, markup in now["sections"].items()]
    style, script = STYLE + LIVE_STYLE, SCRIPT + LIVE_SCRIPT
    return document(now["title"], [LOST, *body], style, script)


def sections(paths: RunPaths) -> dict[str, Any]:
    """Title of the page, and markup of each of its sections by name."""
    name = paths.path.resolve().name
    try:
        state = read_state(paths)
        parts = {
            "head": _head(name, state),
            "stages": _stages(state),
            "scored": _titled("What the search found so far", scatter(paths)),
            "models": _models(paths, state),
            "log": _titled("The last lines of the log", _log(state)),
        }
        words = _short(state)
    except VitParetoError as error:  # a file that is just being made, or damaged
        parts, words = {"head": tag("h1", text(name)) + tag("p", text(error), class_="bad")}, "?"
    return {"title": f"{words} {name}", "sections": dict.fromkeys(SECTIONS, "") | parts}


def _short(state: State) -> str:
    """State of a run for the tab of a browser."""
    if state.state != "running" or state.progress.get("left_s") is None:
        return f"{state.state}:"
    return f"{spoken(state.progress['left_s'])}:"


def _head(name: str, state: State) -> str:
    lines = [tag("h1", text(name)), tag("p", text(_sentence(state)), class_="lead")]
    if state.resume:
        lines += [tag("p", "This goes on from there:"), tag("pre", text(state.resume))]
    if state.state == "running" and state.progress.get("busy"):
        lines.append(tag("p", text(state.progress["busy"]), class_="bad"))
    if (share := _share(state)) is not None:
        lines.append(_track(share))
    return "".join(lines)


def _sentence(state: State) -> str:
    progress, known = state.progress, state.progress.get("left_s")
    if state.state == "waiting":
        return "There is no run in this folder yet; this page waits for it."
    if state.state == "running":
        if not progress["stage"]:
            return f"{progress['doing'] or 'Between two stages'}."
        where = f"Stage {progress['index']} of {progress['of']}, {progress['stage']}: "
        left = "" if known is None else f"; about {spoken(known)} left in all"
        return f"{where}{progress['about']}{left}."
    if state.state == "done":
        return "Done: every stage has ended."
    reason = f"Failed: {state.error}" if state.state == "failed" else "Stopped"
    return f"{reason}; what was finished is kept."


def _share(state: State) -> float | None:
    """Share of the whole job's time that is over; None where nothing tells."""
    if state.state == "done":
        return 1.0
    left = state.progress.get("left_s")
    if left is None:
        return None
    over = sum(row["seconds"] or 0.0 for row in state.progress["stages"])
    return over / (over + left) if over + left else None


def _track(share: float) -> str:
    return tag("div", tag("b", style=f"width: {100 * share:.1f}%"), class_="track")


def _stages(state: State) -> str:
    rows = [_stage(row, state) for row in state.progress["stages"]]
    return tag("h2", "Stages") + tag("ol", *rows, class_="stages card") if rows else ""


def _stage(row: Mapping[str, Any], state: State) -> str:
    now = row["state"] == "now"
    mark, kind = MARKS[row["state"]]
    parts = [
        tag("span", mark, class_="mark"),
        tag("div", tag("b", text(row["name"])), " ", tag("span", text(row["about"]))),
        tag("span", text(_time(row, now and state.state == "running")), class_="time"),
    ]
    if now:
        doing = text(state.progress["doing"])
        parts += [_track(state.progress["share"]), tag("span", doing, class_="doing note")]
    return tag("li", *parts, class_=kind)


def _time(row: Mapping[str, Any], running: bool) -> str:
    seconds, expected = row["seconds"], row["expected_s"]
    about = "" if expected is None else f"about {spoken(expected)}"
    if row["state"] == "to come":
        return about if expected else ""
    known = "" if seconds is None else duration(seconds)
    return f"{known} of {about}" if running and about else known


def _models(paths: RunPaths, state: State) -> str:
    """The delivered models, and the way to the report."""
    names = load_config(paths.config).by_device if paths.config.is_file() else ()
    rows = [
        [
            tag("span", text(m.key), class_="key") + text(f" on {name}" if name else ""),
            text(percent((m.test or m.figures).interval(m.goal)[1])),
            text(ms(m.figures.calibrated_ms)),
            text(mb(m.figures.size_mb)),
            text(m.state) if m.is_predicted or m.kit else yes(m.verified),
        ]
        for name in names
        for m in manifests_so_far(paths.of(name).pareto)
        if m.metrics or m.is_predicted
    ]
    header = ("model", "accuracy", "latency", "size", "verified")
    parts = [table(header, rows)] if rows else []
    if state.state == "done" and paths.report.is_file():
        link = tag("a", "report.html", href="report.html")
        parts.insert(0, tag("p", f"Everything about them is in {link}."))
    return _titled("Delivered models", "".join(parts))


def _log(state: State) -> str:
    return tag("pre", text("\n".join(state.log))) if state.log else ""


def _titled(title: str, content: str) -> str:
    return tag("h2", text(title)) + content if content else ""
