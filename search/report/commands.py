"""Commands: what to type next, with the paths and keys of this run."""

from __future__ import annotations

import shlex

from .facts import Facts
from .markup import tag, text

APP = "app"


def commands(facts: Facts) -> list[str]:
    """The next commands, each with what it is for; a click selects one."""
    lines = next_commands(facts)
    if not lines:
        return []
    return [
        tag("h2", "What to type next"),
        tag(
            "dl",
            *(
                tag("dt", text(why)) + tag("dd", tag("code", text(command)))
                for why, command in lines
            ),
            class_="commands",
        ),
    ]


def next_commands(facts: Facts) -> list[tuple[str, str]]:
    """Purpose and command line of each."""
    if not facts.shown_models:
        return []
    run, chosen = facts.folder.path, facts.taken
    letter, out = facts.letter(chosen.key), f"{APP}/{chosen.key}"
    device = ["--device", facts.folder.device] if facts.folder.device else []
    lines = [
        (
            f"Take {letter}, the fastest within a point of the best, into an app",
            ["vitpareto", "export", run, *device, "--pick", chosen.key, "--out", APP],
        ),
        (
            "Ask the cost model about it, or about any other candidate",
            [
                *("vitpareto", "predict", facts.folder.cost_model),
                facts.folder.pareto / chosen.key / "candidate.json",
            ],
        ),
        ("Check every model again, and refresh what was measured", ["vitpareto", "verify", run]),
    ]
    if "index.html" in chosen.files:
        purpose = "Or in a browser: serve its page to http://localhost:8000"
        lines.insert(1, (purpose, ["python", "-m", "http.server", "--directory", out]))
    if "predict.py" in chosen.files:
        purpose = "Classify pictures or folders with it; it needs nothing of this package"
        lines.insert(1, (purpose, ["python", f"{out}/predict.py", "photo.jpg"]))
    if any(m.is_predicted for m in facts.shown_models):
        purpose = "Pack what measures the models on their device, and tells what to type there"
        lines.insert(0, (purpose, ["vitpareto", "export", run, *device, "--kit", "kit"]))
    elif not facts.ladder:
        purpose = "Compare with int8 alone, pruning alone and linear attention, trained alike"
        lines.append((purpose, ["vitpareto", "ladder", run, *device]))
    if not facts.proxy:
        checked = "Check the search's order against trainings of single candidates"
        lines.append((checked, ["vitpareto", "proxy", facts.folder.config, "--run-dir", run]))
    return [(why, shlex.join(map(str, words))) for why, words in lines]
