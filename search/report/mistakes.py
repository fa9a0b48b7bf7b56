"""Mistakes: pictures that a model gets wrong although it is sure."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ..counted import counted
from ..data.rows import Mapped, open_pixels
from ..data.survey import as_image
from .confusion import short
from .facts import Facts
from .markup import tag, text
from .words import percent

SHOWN = 12
SIDE, LARGEST = 84, 168  # pixels of a thumbnail on the page, and in it for screens with fine pixels
NAME_PX = 84


def thumbnails(facts: Facts, key: str, split: str) -> str:
    """The surest mistakes of a model, as small pictures; empty where none are known.

    Args:
        facts: of the run.
        key: of the model.
        split: whose images they are, if mistakes on it are known; otherwise the validation split.
    """
    if key not in facts.mistakes.get(split, {}):
        split = "validation"
    found: Sequence[Mapping[str, Any]] = facts.mistakes.get(split, {}).get(key, [])
    catalog = facts.catalog
    if not found or catalog is None or not facts.folder.pixels.exists():
        return ""
    look, shown = catalog.look, found[:SHOWN]
    shape = (len(catalog.rows), look.channels, look.size, look.size)
    pixels = open_pixels(facts.folder.pixels, shape)
    which = f"The {counted(len(shown), 'mistake')} of which it is surest"
    words = f"{which} on the {split} split: what the picture is, and what the model says."
    pictures = (_thumbnail(one, pixels) for one in shown)
    return tag("p", words, class_="note") + tag("div", *pictures, class_="thumbs")


def _thumbnail(mistake: Mapping[str, Any], pixels: Mapped) -> str:
    label, answer = mistake["label"], mistake["answer"]
    tip = (
        f"{mistake['path']}\nis {label} ({percent(mistake['label_probability'])})\n"
        f"the model says {answer} ({percent(mistake['probability'])})"
    )
    picture = tag(
        "img",
        src=data_uri(as_image(pixels[mistake["row"]])),
        width=SIDE,
        height=SIDE,
        alt=f"{label}, taken for {answer}",
    )
    said = tag("b", text(short(answer, NAME_PX)))
    words = tag("span", text(short(label, NAME_PX))) + tag(
        "span", said, f" {mistake['probability']:.0%}"
    )
    return tag("div", picture.removesuffix("</img>"), words, data_tip=tip, tabindex=0)


def data_uri(image: Image.Image) -> str:
    """A picture inside the page."""
    image.thumbnail((LARGEST, LARGEST))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
