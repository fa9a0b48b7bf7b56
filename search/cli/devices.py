"""Commands about devices and their cost models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from ...spaces.errors import VitParetoError
from .output import echo, json_option, print_json


@click.command()
@click.argument("device")
@click.option("--space", "space_name", required=True, help="Whose networks will be predicted.")
@click.option("--out", type=click.Path(path_type=Path), help="MODEL.json to write.")
@click.option(
    "--budget-s",
    type=click.FloatRange(min=5),
    default=180.0,
    show_default=True,
    help="Wall time in seconds, export and compilation included.",
)
@click.option(
    "--table",
    "tables",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Measurements that are there already: a CSV, or the folder of a bundle or of a kit.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Measure nothing here: write a folder that measures another machine.",
)
@click.option("--seed", type=int, default=0, help="Of what is sampled and measured.")
@json_option
def calibrate(
    device: str,
    space_name: str,
    out: Path | None,
    budget_s: float,
    tables: tuple[Path, ...],
    bundle: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure DEVICE, a file or a preset, and fit a cost model that others can load.

    Stopped with Ctrl-C it keeps what it measured in a CSV beside the model; the same command
    goes on from there.

    A machine that runs no search is measured by a bundle, or by the kit of a run: what comes back
    is a --table, and nothing is measured here.

    \b
      vitpareto calibrate cpu-1t --space cifar --out cifar.json
      vitpareto calibrate phone.yaml --space runs/x/space.yaml --table kit --out phone.json
    """  # noqa: D301
    from ...cost_models import Device
    from ...spaces import SearchSpace
    from ..console import say, share_bar

    opened, space = Device.load(device), SearchSpace.from_yaml(space_name)
    if space.description:
        say(f"space: {space.description}")
    if bundle is not None:
        from ...cost_models.calibration.bundle import write_bundle

        with share_bar("bundle") as report:
            graphs = write_bundle(opened, space, bundle, seed=seed, progress=report)
        print_json({"bundle": str(bundle), "graphs": graphs}) if as_json else click.echo(
            f"{bundle}: {graphs} graphs; copy it to the device and run `python run.py` there"
        )
        return
    if out is None:
        raise click.UsageError("--out MODEL.json is needed, or --bundle DIR")
    if not math.isfinite(budget_s):  # which no range of click refuses
        raise click.UsageError(f"--budget-s: need a number of seconds, got {budget_s}")
    from ...cost_models.calibration.calibrate import calibrate as measure
    from .cost_text import figures

    with share_bar("calibrate") as report:
        model = measure(opened, space, budget_s, seed, tables=tables, out=out, progress=report)
    print_json(model.validation) if as_json else echo(figures(model.validation))


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@json_option
def predict(model: Path, files: tuple[Path, ...], as_json: bool) -> None:
    """Predict latency, memory and size of candidates and of ONNX files.

    MODEL is what `calibrate` wrote, or cost_model.json of a run folder. A FILE is JSON with one
    candidate or a list of them, as `space sample --json` prints, or an ONNX file of static shapes,
    from anywhere: as exported up to opset 28, quantized in pairs or operators, or optimized and
    saved by ONNX Runtime. Of an ONNX file it says which share of the time lies within what was
    measured, and of the rest what it is: layers that no sub-block has, integers where no recipe has
    them, operators that are not known. That is a guess, and the interval is wider; a file that is
    mostly of operators that are not known is refused.

    \b
      vitpareto predict cifar.json candidates.json model.onnx
    """  # noqa: D301
    from ...cost_models import CostModel
    from ...cost_models.hand_over import expectation
    from ..store.candidate_files import read_candidates
    from .text import prediction_lines

    opened, rows = CostModel.load(model), list[dict[str, Any]]()
    if other := _other_machine(opened.identity):
        click.echo(f"{model}: {other}", err=True)
    for file in files:
        if file.suffix.lower() == ".onnx":
            from ...cost_models import predict_onnx  # imports onnx

            rows.append({"key": str(file), **predict_onnx(opened, file).row()})
            continue
        predicted = opened.predict(read := read_candidates(file))
        if words := expectation(read):
            click.echo(f"{file}: {words}", err=True)
        rows += [{"key": candidate.key, **predicted.row(i)} for i, candidate in enumerate(read)]
    print_json(rows) if as_json else echo(prediction_lines(rows))


def _other_machine(identity: dict[str, Any]) -> str:
    """In what this machine differs from the one that was measured; empty where nothing tells."""
    from ...cost_models import Device
    from ...cost_models.tables.latency_table import different

    try:
        here = Device.of_identity(identity, "measured", []).identity()
    except VitParetoError:  # a runtime or a provider that is not known here
        return ""
    if here == identity:
        return ""
    return (
        f"{different(identity, here, 'in the model', 'here')}: what follows is predicted for that; "
        "`vitpareto calibrate` measures this machine, `vitpareto costs transfer` with few "
        "measurements"
    )


@click.command()
@click.argument("device", required=False)
@json_option
def devices(device: str | None, as_json: bool) -> None:
    """List the devices that come with the package, and which of them can be used here.

    With DEVICE, one of these or a file, measure which kernels each precision really executes on
    it, which takes about a minute, and say which blocks it cannot run at all. A search tries those
    of its space by itself, and goes without what its device cannot execute.

    \b
      vitpareto devices
      vitpareto devices cpu-1t
    """  # noqa: D301
    from ...cost_models import Device
    from ...cost_models.measure.capabilities import capabilities, refused_blocks
    from ...cost_models.measure.capabilities import devices as list_devices
    from .text import device_lines

    tables: dict[str, list[dict[str, Any]]] = {}
    refused: dict[str, dict[str, str]] = {}
    if device:
        from ..console import share_bar

        opened = Device.load(device)
        with share_bar(device) as report:
            refused[device] = refused_blocks(opened)
            tables[device] = [c.to_dict() for c in capabilities(opened, progress=report)]
    listed = list_devices()
    if as_json:
        print_json({"devices": listed, "capabilities": tables, "refused": refused})
    else:
        echo(device_lines(listed, tables, refused))
