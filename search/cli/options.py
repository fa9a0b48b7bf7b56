"""Options: those that several commands share, and how commands end."""

from __future__ import annotations

from pathlib import Path

import click

from ...spaces.errors import RunError

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


def new_file(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """A file to write, before any work is done for it.

    Raises:
        RunError: it is there already.
    """
    if path is not None and path.exists():
        problem = (
            "is a folder: name a file" if path.is_dir() else "exists already, nothing was written"
        )
        raise RunError(f"{path}: {problem}")
    return path


run_argument = click.argument("run", type=click.Path(path_type=Path))
device_option = click.option(
    "--device", metavar="NAME", help="Of a run for several devices, the one that is meant."
)
