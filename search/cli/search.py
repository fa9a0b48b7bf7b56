"""Command `vitpareto search`: the whole job."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import FAILED, NOT_VERIFIED, overrides_option, run_dir_option
from .output import echo, json_option, print_json

if TYPE_CHECKING:
    from ..run.assets import Run
    from ..store.run_folder import RunFolder


@click.command()
@click.argument("config")
@run_dir_option
@click.option("--resume", is_flag=True, help="Continue the run that is in the folder, if any.")
@overrides_option
@click.option("--seed", type=int, help="Short for --set search.seed=N.")
@click.option(
    "--budget",
    metavar="TIME",
    help="Wall time of the whole job, such as 15min or 1h30min, from which every length follows "
    "that CONFIG does not give; short for --set budget=TIME.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print what would be done, how long it takes, and stop."
)
@click.option(
    "--compare",
    "names",
    multiple=True,
    metavar="NAME",
    help="Deliver nothing; compare this sampler or baseline with the others that are named.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=5, help="Searches of each of them.")
@json_option
def search(
    config: str,
    run_dir: Path | None,
    resume: bool,
    overrides: tuple[str, ...],
    seed: int | None,
    budget: str | None,
    dry_run: bool,
    names: tuple[str, ...],
    seeds: int,
    as_json: bool,
) -> None:
    """Search, and deliver the best models verified: the whole job.

    CONFIG is a run file or the name of a preset, such as digits. Stopped with Ctrl-C, it keeps
    what was finished; the same command with --resume goes on from there.
    """
    from ...cost_models.openmp import wait_briefly
    from ..config import load_config

    wait_briefly()
    if seed is not None:
        overrides = (*overrides, f"search.seed={seed}")
    if budget is not None:
        overrides = (*overrides, f"budget={budget}")
    loaded = load_config(config, overrides)
    path = run_dir or Path("runs") / Path(config).stem
    if dry_run:
        from ..dry_run import plan, plan_lines

        planned = plan(loaded, path)
        print_json(planned.to_dict()) if as_json else echo(plan_lines(planned))
        return
    from .. import pipeline
    from ..run.assets import Run
    from ..run.opening import open_run
    from ..run.stages import logging_to, stage_lines
    from ..store.atomic_files import read_json

    changes = [word for override in overrides for word in ("--set", override)]
    if names:
        changes += [word for name in names for word in ("--compare", name)]
        changes += ["--seeds", str(seeds)]
    with (
        _resumable(["search", config, "--run-dir", str(path), *changes, "--resume"]),
        open_run(loaded, path, resume) as folder,
        logging_to(folder.log),
        Run(folder) as run,
    ):
        if names:
            with pipeline.beside_search(run):
                _compare(run, names, seeds, as_json)
            return
        delivered = pipeline.search(run)
    if as_json:
        print_json([manifest.row() for manifest in delivered])
    else:
        stages = stage_lines(read_json(folder.stages))
        by_device = [m for name in run.config.by_device for m in _delivered_lines(folder, name)]
        echo([*by_device, "", *stages, "", f"Report: {folder.report}"])
    sys.exit(NOT_VERIFIED if any(m.broken for m in delivered) else 0)


def _compare(run: Run, names: Sequence[str], seeds: int, as_json: bool) -> None:
    from ..experiments.sampler_comparison import compare_run, comparison_text

    outcomes = compare_run(run, names, seeds)
    if as_json:
        print_json([outcome.to_dict() for outcome in outcomes])
    else:
        click.echo(comparison_text(outcomes))
        click.echo(f"Fronts: {run.folder.comparison_picture}")


def _delivered_lines(folder: RunFolder, device: str) -> list[str]:
    """The delivered models of a device, of several with its name."""
    from ..delivery.manifest import manifests
    from .text import model_lines

    lines = model_lines(manifests(folder.of(device).pareto))
    return [f"on {device}:", *lines, ""] if device else lines


@contextlib.contextmanager
def _resumable(words: Sequence[str]) -> Generator[None]:
    """Print the command that continues after Ctrl-C or SIGTERM."""
    try:
        yield
    except KeyboardInterrupt:
        command = shlex.join(["vitpareto", *words])
        click.echo(f"Interrupted. What was finished is kept; go on with: {command}", err=True)
        sys.exit(FAILED)
