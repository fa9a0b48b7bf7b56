"""Command `vitpareto verify`: artifacts held to what was promised of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .folders import open_if_free
from .options import NOT_VERIFIED, run_argument
from .output import echo, json_option, print_json

if TYPE_CHECKING:
    from ..delivery.verify import Report
    from ..store.run_folder import RunFolder


@click.command()
@run_argument
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="Take in what a kit of RUN measured on the machine that the models are for.",
)
@json_option
def verify(run: Path, measured: Path | None, as_json: bool) -> None:
    """Check every delivered artifact of RUN again, on its runtime.

    On the device that they are made for, what is measured now takes the place of what was measured
    before, in the manifests, in the report and in everything that reads them; measurements.jsonl
    keeps both, and models that take longer than before are named. Of models for another machine
    only files and answers are checked.

    With --measured, DIR is the kit that came back, or FILE what the page of a kit for browsers gave
    to be saved, put into the folder of that kit. Run, files, machine and answers are checked;
    only then the measurements are written, and the models verified, on that machine. Whatever
    does not fit is told in one line, and nothing is overwritten.

    \b
      vitpareto export runs/phone --kit kit
      vitpareto verify runs/phone --measured kit
    """  # noqa: D301
    if measured is not None:
        _verify_measured(run, measured, as_json)
        return
    folder = open_if_free(run, "it is checked, and ")  # before what takes seconds to import
    from ..delivery.verify import verify_again
    from ..report import build_report
    from ..run.assets import Run
    from ..store.run_folder import RunFolder

    with folder, Run(RunFolder(run, lock=False)) as opened:  # which writes nothing, no image either
        checked = {
            name: verify_again(folder.of(name), side.device, opened.data)
            for name, side in opened.sides.items()
        }
        if folder.is_open and folder.report.exists():
            build_report(folder)
    _tell(checked, folder, as_json)


def _verify_measured(run: Path, measured: Path, as_json: bool) -> None:
    from ..delivery.kit_results import folder_of, kit_device, verify_measured
    from ..report import build_report
    from ..run.assets import Run
    from ..store.run_folder import RunFolder

    measured = folder_of(measured)
    with RunFolder(run) as folder, Run(RunFolder(run, lock=False)) as opened:
        device = kit_device(folder, measured)
        reports = verify_measured(folder.of(device), measured, opened.data)
        if folder.report.exists():
            build_report(folder)
    _tell({device: reports}, folder, as_json)


def _tell(checked: Mapping[str, Sequence[Report]], folder: RunFolder, as_json: bool) -> NoReturn:
    """Print the reports of each device with the history of its measurements, and exit."""
    from ..delivery.history import read_history
    from .text import check_lines, history_lines

    rows: list[dict[str, Any]] = []
    for name, reports in checked.items():
        history = read_history(folder.of(name))
        on = {"device": name} if name else {}
        rows += [r.to_dict() | on | {"history": history.get(r.key, [])} for r in reports]
        if not as_json:
            lines = [*check_lines(reports), *history_lines(reports, history)]
            echo([*([f"{name}:"] if name else []), *lines])
    if as_json:
        print_json(rows)
    holds = all(report.holds for reports in checked.values() for report in reports)
    sys.exit(0 if holds else NOT_VERIFIED)
