"""Markup: elements of HTML and SVG, with text escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

Value = str | float | int | None

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}
<div id="tip" role="tooltip"></div>
<script>{script}</script>
</body>
</html>
"""


def document(title: str, body: Sequence[str], style: str, script: str) -> str:
    """A whole page that needs no other file.

    Args:
        title: as text.
        body: markup, element by element.
        style: CSS.
        script: JavaScript.
    """
    return HTML.format(title=text(title), style=style, body="\n".join(body), script=script)


def text(value: object) -> str:
    """Any value as text inside an element."""
    return html.escape(str(value))


def tag(name: str, *children: str, **attributes: Value) -> str:
    """An element of SVG or HTML.

    Args:
        name: of the element.
        children: markup inside.
        attributes: by name, "_" for "-" and none at the end; `None` leaves one out.

    >>> tag("circle", cx=1.25, class_="dot")
    '<circle cx="1.2" class="dot"></circle>'
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            shown = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
            words.append(f'{key.rstrip("_").replace("_", "-")}="{text(shown)}"')
    start = " ".join(words)
    return f"<{start}>{''.join(children)}</{name}>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], wrap: int | None = None) -> str:
    """A table that scrolls where it is too wide.

    Args:
        header: text of each column.
        rows: markup of each cell.
        wrap: the column whose text may break.
    """
    head = tag("tr", *(tag("th", text(cell) or " ") for cell in header))
    body = (
        tag(
            "tr",
            *(
                tag("td", cell or " ", class_="wrap" if i == wrap else None)
                for i, cell in enumerate(row)
            ),
        )
        for row in rows
    )
    return tag("div", tag("table", head, *body), class_="scroll")


def yes(holds: bool) -> str:
    """Yes or no, in its color."""
    return tag("span", "yes" if holds else "no", class_="good" if holds else "bad")
