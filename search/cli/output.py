"""Output: printing of lines and JSON, and the option that asks for JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def print_json(value: Any) -> None:
    """Print a value as JSON for machines."""
    click.echo(json.dumps(value, indent=2))


def echo(lines: Iterable[str]) -> None:
    """Print lines for people."""
    for line in lines:
        click.echo(line)
