"""Command `vitpareto export`: models taken out of a run, or a kit that measures them elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click
from click.core import ParameterSource

from .options import device_option
from .output import json_option, print_json


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--pick",
    default="good",
    show_default=True,
    metavar="good|knee|fastest|best|LETTER|KEY",
    help="Which of a run: good is the fastest within a point of the best accuracy, knee the one "
    "farthest above the line from the fastest to the best; a letter is that of the report.",
)
@click.option(
    "--within",
    multiple=True,
    metavar="LIMIT",
    help="Only of models that keep it, such as 'accuracy>=0.97' or 'latency_ms<=0.1'.",
)
@click.option("--random-weights", is_flag=True, help="For latency work, without a run.")
@click.option("--runtime", help="Of the artifact; that of the run, or onnxruntime, by default.")
@device_option
@click.option(
    "--features",
    is_flag=True,
    help="The maps of its stages instead of its answers, for a detector or a segmenter.",
)
@click.option(
    "--input-size",
    type=click.IntRange(min=16),
    help="With --features: pixels of an image; those of the model by default.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--kit",
    type=click.Path(path_type=Path),
    help="Instead: write a folder that measures all delivered models where they will run.",
)
@click.option(
    "--sub-blocks",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="With --kit: how many are packed for `calibrate --table`, at most; 0 for none.",
)
@json_option
def export(
    source: Path,
    pick: str,
    within: tuple[str, ...],
    random_weights: bool,
    runtime: str | None,
    device: str | None,
    features: bool,
    input_size: int | None,
    out: Path | None,
    kit: Path | None,
    sub_blocks: int,
    as_json: bool,
) -> None:
    """Write a deployable artifact of a run, or of candidates with random weights.

    SOURCE is a run folder, or a JSON file with one candidate or a list of them. With --runtime
    onnxruntime-web the folder is a page that any web server can serve.

    A kit holds the models of a run, images with expected answers, sub-blocks to calibrate, and
    programs that need the runtime alone. Its README.txt says what to type on the machine, or for a
    phone over adb; what comes back is taken in by `verify --measured`.

    With --features the ONNX file gives a map of each stage, and features.json its stride, channels
    and size.

    \b
      vitpareto export runs/digits --pick best --out app
      vitpareto export runs/digits --kit kit
    """  # noqa: D301
    if (out is None) == (kit is None):
        raise click.UsageError("--out DIR is needed, or --kit DIR, and not both")
    of_run = ("pick", "within", "device")
    if kit is not None:
        own = (*of_run[:2], "random_weights", "runtime", "features", "input_size")
        _refuse(own, "a kit holds all delivered models of a run, in its runtime")
        _export_kit(source, device, kit, sub_blocks, as_json)
        return
    assert out is not None
    _refuse(["sub_blocks"], "is for --kit")
    if input_size and not features:
        raise click.UsageError("--input-size is for --features; a classifier keeps its size")
    if source.is_dir():
        _refuse(["random_weights"], "the models of a run are trained")
        wanted = _Wanted(pick, within, runtime, features, input_size)
        path, verified, status = _export_picked(source, device, wanted, out)
        paths = [path]
    elif features:
        raise click.UsageError("--features needs a run folder, whose models are trained")
    else:
        _refuse(of_run, f"is for run folders, and {str(source)!r} is none")
        from ..delivery.handover import RANDOM, export_candidates

        paths = export_candidates(source, random_weights, runtime or "onnxruntime", out)
        verified, status = False, RANDOM
    click.echo(status[0].upper() + status[1:] + ".", err=True)
    if as_json:
        about = {"verified": verified, "status": status}
        print_json([{"key": path.parent.name, "path": str(path), **about} for path in paths])
    else:
        for path in paths:
            click.echo(path)


def _refuse(names: Iterable[str], why: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        UsageError: one of them was given.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')}: {why}")


class _Wanted(NamedTuple):
    """What is to be taken out of a run, as the options say."""

    pick: str
    within: tuple[str, ...]
    runtime: str | None
    features: bool
    input_size: int | None


def _export_picked(
    source: Path, device: str | None, wanted: _Wanted, out: Path
) -> tuple[Path, bool, str]:
    """Path of a model of a run, whether it is verified, and that in words."""
    from ..delivery.features import STATUS, export_features
    from ..delivery.handover import export_picked
    from ..delivery.manifest import manifests, read_manifest
    from ..delivery.pick import pick_model
    from ..run.assets import Run
    from ..run.devices import of_device
    from ..store.run_folder import RunFolder
    from .text import choice_lines

    run = Run(of_device(RunFolder(source, lock=False), device))
    pareto, delivered = run.folder.pareto, manifests(run.folder.pareto)
    chosen = pick_model(delivered, wanted.pick, wanted.within)
    from_run = (pareto, lambda: run.data, chosen, wanted.runtime)
    if wanted.features:
        path = export_features(*from_run, wanted.input_size, out)
        verified, status = False, STATUS
    else:
        path = export_picked(*from_run, out)
        made = read_manifest(path.parent)
        verified, status = made.verified, made.status
    for line in choice_lines(delivered, chosen):  # the path alone goes to standard output
        click.echo(line, err=True)
    return path, verified, status


def _export_kit(run: Path, device: str | None, out: Path, sub_blocks: int, as_json: bool) -> None:
    from ..console import share_bar
    from ..delivery.kit import pack, write_kit
    from ..run.assets import Run
    from ..run.devices import of_device
    from ..store.run_folder import RunFolder

    opened = Run(of_device(RunFolder(run, lock=False), device))
    kit = pack(opened.folder, opened.space, opened.data, sub_blocks)
    with share_bar("kit") as report:
        write_kit(kit, out, report)
    if as_json:
        print_json({"kit": str(out), "models": [manifest.key for manifest in kit.delivered]})
    else:
        click.echo(f"{out}: bring it to {kit.device.name}; {out / 'README.txt'} says what to type")
