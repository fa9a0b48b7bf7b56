"""Durations as people write them: 90s, 15min, 2h, 1h30min."""

from __future__ import annotations

import re

UNITS = {"h": 3600, "min": 60, "s": 1}
FORM = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in UNITS))


def parse_duration(text: str) -> float:
    """Seconds.

    >>> parse_duration("1h30min")
    5400.0

    Raises:
        ValueError: it is none, or less than a second.
    """
    found = FORM.fullmatch(text.replace(" ", ""))
    parts = [float(part or 0) for part in found.groups()] if found else []
    seconds = sum(part * unit for part, unit in zip(parts, UNITS.values(), strict=False))
    if not seconds >= 1:
        hint = f"; {text}min?" if re.fullmatch(r"\d+(\.\d+)?", text) else ""
        raise ValueError(f"a duration has units, such as 90s, 15min or 1h30min, got {text!r}{hint}")
    return seconds


def duration_text(seconds: float) -> str:
    """A duration in seconds, minutes or hours.

    >>> [duration_text(s) for s in (42, 900, 1000, 5400, 5450)]
    ['42s', '15min', '16min40s', '1h30min', '1h30min50s']
    """
    rest, parts = round(seconds), list[str]()
    for name, unit in UNITS.items():
        count, rest = divmod(rest, unit)
        parts += [f"{count}{name}"] if count else []
    return "".join(parts) or "0s"
