"""Folders: a run that is looked at while another process may be at work in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...spaces.errors import RunError

if TYPE_CHECKING:
    from ..store.run_folder import RunFolder


def open_if_free(path: Path, meanwhile: str = "") -> RunFolder:
    """A run folder, in which nothing is to be written while another process holds it.

    Args:
        path: of the folder.
        meanwhile: what is done with it even so, for people.

    Raises:
        RunError: it is no run folder.
    """
    from ..store.run_folder import RunFolder

    try:
        return RunFolder(path)
    except RunError as error:
        folder = RunFolder(path, lock=False)
        click.echo(f"{error}: {meanwhile}nothing in it is refreshed", err=True)
        return folder
