"""Messages: what is wrong with a run file, in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError

from ...spaces.errors import did_you_mean
from .section import share_text


def one_line(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first problem of what a schema refuses: key, rule, and what was given."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *sections, last = problem["loc"]
        known = _keys(schema, [str(section) for section in sections])
        return f"unknown key {where!r}. {did_you_mean(str(last), known)}"
    if problem["type"] == "missing":
        return f"needs the key {where!r}"
    if problem["type"] == "literal_error" and isinstance(given := problem["input"], str):
        allowed = re.findall("'([^']*)'", problem.get("ctx", {}).get("expected", ""))
        if allowed:
            return f"{where}: no such value {given!r}. {did_you_mean(given, filter(None, allowed))}"
    bounded = problem["type"] in ("less_than", "less_than_equal")
    if bounded and 1 in problem.get("ctx", {}).values() and float(problem["input"]) > 1:
        return f"{where}: {share_text(float(problem['input']))}"  # no other key has that bound
    rule = problem["msg"].removeprefix("Value error, ")
    if problem["type"].startswith("model_"):
        keys = [str(key) for key in problem["loc"]]
        first, value = _keys(schema, keys)[0], problem["input"]
        meant = f"={value}" if first == "name" and isinstance(value, str) else ""
        rule = f"needs keys of its own below it, such as {where}.{first}{meant}"
    given = "" if problem["type"] == "value_error" else f", got {problem['input']!r:.80}"
    return f"{where}: {rule}{given}" if where else rule


def _keys(model: type[BaseModel], sections: Sequence[str]) -> list[str]:
    for section in sections:
        if section.isdigit():  # number in a list of sections
            continue
        kind = model.model_fields[section].annotation
        model = next(k for k in (kind, *get_args(kind)) if isinstance(k, type))
    return list(model.model_fields)
