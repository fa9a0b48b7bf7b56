"""Options: those that several commands share, and how commands end."""

from __future__ import annotations

from pathlib import Path

import click

FAILED, BAD_INPUT, NOT_VERIFIED = 1, 2, 3

run_dir_option = click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Run folder; runs/NAME by default."
)
overrides_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the configuration, such as search.trials=300.",
)
run_argument = click.argument("run", type=click.Path(path_type=Path))
device_option = click.option(
    "--device", metavar="NAME", help="Of a run for several devices, the one that is meant."
)
