"""Commands that look at images before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from .output import echo, json_option, print_json


@click.group()
def data() -> None:
    """Look at labeled images before anything is trained."""


@data.command()
@click.argument("config")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the configuration, such as data.fit=pad.",
)
@click.option(
    "--files",
    type=click.Path(path_type=Path),
    help="CSV to write: path, label and split of every image that will be read.",
)
@click.option(
    "--sheet", type=click.Path(path_type=Path), help="PNG to write: images as networks see them."
)
@json_option
def show(
    config: str,
    overrides: tuple[str, ...],
    files: Path | None,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Print what CONFIG, a run file or a preset, reads: classes, splits, and what is wrong.

    \b
    What would stop a search is told last, and the exit status is then 2.

    Images are found in one of these ways; folders below a class are part of it, and whatever is
    left out is counted by reason:
      data: {root: photos}            photos/CLASS/**/IMAGE
                                      photos/{train,validation|valid|val,test}/CLASS/**/IMAGE
      data: {root: photos.csv}        columns path, label, perhaps split and group; or .parquet
      data: {name: torch/cifar10, root: DIR}    and others, as timm's create_dataset names them
    """  # noqa: D301
    from ...spaces.errors import RunError
    from ..config import load_config
    from ..data.loading import catalog_of, pixels_of
    from ..data.overview import examples, overview, overview_lines, write_files
    from ..run.opening import named_space

    loaded = load_config(config, overrides)
    for out in filter(None, (files, sheet)):
        _check_kept(out, [Path(read) for read in (config, loaded.data.root) if read])
    size = named_space(loaded).largest().architecture.input_size
    catalog = catalog_of(loaded.data, size, strict=False)
    if files:
        write_files(catalog, files)
    if sheet and (chosen := examples(catalog)):
        from ..data.contact_sheet import contact_sheet

        captions = [catalog.rows[i].label for i in chosen]
        contact_sheet(pixels_of(loaded.data, size, chosen), captions, sheet)
    about = overview(catalog)
    print_json(about) if as_json else echo(overview_lines(about))
    if catalog.problem:
        raise RunError(f"data: {catalog.problem}")


def _check_kept(out: Path, reads: Iterable[Path]) -> None:
    """Check that nothing is written over a file, or over one of a folder, that is read.

    Raises:
        RunError: it would be.
    """
    from ...spaces.errors import RunError

    if out.is_file() and any(out.resolve().is_relative_to(read.resolve()) for read in reads):
        raise RunError(f"{out}: is read by this run, nothing was written: name another file")
