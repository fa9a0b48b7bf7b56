"""Contact sheet: the first images of every class on one page, as networks see them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ...spaces.files import write_atomic

CLASSES, EACH, LEAST = 1000, 8, 2  # shown: classes at most, images of each at most and at least
FEW, MANY = 160, 800  # images in all: at most while large, and that small ones may add up to
LARGE, SMALL = (128, 15), (56, 12)  # sides of images, and sizes of their text, in pixels
GAP, MARGIN, LINE = 4, 28, 26  # pixels: between images, around blocks, of a line
WIDE = 1.4  # width over height that is aimed at
PAPER, INK, SOFT, RIM = "#ffffff", "#22262b", "#6b737d", "#dfe3e8"


def each_of(classes: int) -> int:
    """Images of each of so many classes that a sheet has room for.

    >>> each_of(10), each_of(200), each_of(1000)
    (8, 4, 2)
    """
    return min(EACH, max(LEAST, MANY // classes))


def contact_sheet(pixels: NDArray[np.uint8], captions: Sequence[str], path: Path) -> None:
    """Write a PNG with the first images of every class under its name.

    Args:
        pixels: images (N, C, S, S), with one channel or three.
        captions: class name of every image (N,); classes come in the order of their first images.
        path: of the PNG.
    """
    classes: dict[str, list[int]] = {}
    for i, caption in enumerate(captions):
        classes.setdefault(caption, []).append(i)
    shown = list(classes)[:CLASSES]
    each = min(each_of(len(shown)), max(map(len, classes.values())))
    side, text_size = LARGE if each * len(shown) <= FEW else SMALL
    title = f"{pixels.shape[-1]} x {pixels.shape[-1]} pixels, as networks see them"
    if len(shown) < len(classes):
        title += f"; the first {len(shown):,} of {len(classes):,} classes"
    font, known = _font(title + "".join(shown), text_size)
    width = each * (side + GAP) - GAP
    across, down = width + MARGIN, LINE + side + MARGIN // 2
    columns = max(1, round(math.sqrt(len(shown) * down * WIDE / across)))
    rows = math.ceil(len(shown) / columns)
    columns = math.ceil(len(shown) / rows)
    top = 2 * LINE + MARGIN // 2
    wide = max(columns * across + MARGIN, math.ceil(font.getlength(title)) + 2 * MARGIN)
    sheet = Image.new("RGB", (wide, top + rows * down + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN // 2 + LINE), title, SOFT, font, anchor="ls")
    for number, name in enumerate(shown):  # from top to bottom, as lists are read
        x, y = MARGIN + number // rows * across, top + number % rows * down
        text = "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in name)
        draw.text((x, y + LINE - 8), _fitting(text, width, font), INK, font, anchor="ls")
        for i in classes[name][:each]:
            sheet.paste(_tile(pixels[i], side), (x, y + LINE))
            draw.rectangle((x - 1, y + LINE - 1, x + side, y + LINE + side), outline=RIM)
            x += side + GAP
    file = io.BytesIO()
    sheet.save(file, "PNG")
    write_atomic(path, file.getvalue())


def _tile(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """An image (C, S, S) at another size; one that grows shows its pixels."""
    colors = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
    grows = pixels.shape[-1] < side
    how = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return Image.fromarray(np.ascontiguousarray(colors)).resize((side, side), how)


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """A text as it is, or without its middle where it is wider than so many pixels."""
    kept, short = len(text), text
    while kept > 1 and font.getlength(short) > width:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def _font(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, set[int]]:
    """A font, and the characters of a text that it can draw.

    Matplotlib's DejaVu, which knows most alphabets, or one of this machine's that knows more of the
    text, such as Chinese.
    """
    import matplotlib
    from matplotlib.ft2font import FT2Font

    needed = set(map(ord, text))
    ours = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    font, known = ImageFont.truetype(ours, size), needed & FT2Font(ours).get_charmap().keys()
    if known == needed:
        return font, known
    from matplotlib.font_manager import findSystemFonts  # takes its time

    for file in sorted(findSystemFonts()):
        try:
            more = needed & FT2Font(file).get_charmap().keys()
            if len(more) > len(known):
                font, known = ImageFont.truetype(file, size), more
        except (OSError, RuntimeError):  # cannot be read, or not at this size
            continue
    return font, known
