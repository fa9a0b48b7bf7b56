"""Devices: the page of a run for several, with the front of each and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import quote

from ..run.crossing import Crossing
from .crossing import crossing_section
from .facts import Facts
from .front import front_chart
from .markup import document, tag, text
from .models import model_table
from .page import device_words
from .style import SCRIPT, STYLE
from .svg import both


def devices_page(crossing: Crossing, sides: Mapping[str, Facts]) -> str:
    """The page, from which there is a way to the whole report of each device.

    Args:
        crossing: of the run.
        sides: facts of the run on each device, by name.
    """
    facts = next(iter(sides.values()))
    name = facts.folder.path.resolve().name
    words = (
        f"Space {facts.space.name}, images {facts.config.data.label}, {len(sides)} devices, "
        f"{len(facts.evaluations):,} candidates scored. Each model was delivered for every device, "
        "and whatever runs on this machine was measured here."
    )
    body = [
        tag("h1", text(name)),
        tag("p", text(words), class_="lead"),
        *crossing_section(crossing, sides),
        *(part for device, side in sides.items() for part in _device(device, side)),
    ]
    return document(f"{name}: vitpareto", body, STYLE, SCRIPT)


def _device(name: str, facts: Facts) -> list[str]:
    """The front and the models of one device."""
    report = facts.folder.report.relative_to(facts.folder.path).as_posix()
    link = tag("a", text(f"the report of {name}"), href=quote(report))
    return [
        tag("h2", text(f"On {name}")),
        tag("p", f"{text(device_words(facts))}. Everything else is in {link}.", class_="note"),
        tag("figure", both(partial(front_chart, facts))),
        *model_table(facts),
    ]
