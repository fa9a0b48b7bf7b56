"""Command `vitpareto export`: models taken out of a run, or a kit that measures them elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

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

    \b
      vitpareto export runs/digits --pick best --out app
      vitpareto export runs/digits --kit kit
    """  # noqa: D301
    if (out is None) == (kit is None):
        raise click.UsageError("--out DIR is needed, or --kit DIR, and not both")
    if kit is not None:
        _export_kit(source, device, kit, sub_blocks, as_json)
        return
    assert out is not None
    from ..delivery.handover import RANDOM, export_candidates, export_picked

    if source.is_dir():
        from ..delivery.manifest import manifests, read_manifest
        from ..delivery.pick import pick_model
        from ..run.assets import Run
        from ..run.devices import of_device
        from ..store.run_folder import RunFolder
        from .text import choice_lines

        run = Run(of_device(RunFolder(source, lock=False), device))
        delivered = manifests(run.folder.pareto)
        chosen = pick_model(delivered, pick, within)
        paths = [export_picked(run.folder.pareto, lambda: run.data, chosen, runtime, out)]
        made = read_manifest(paths[0].parent)
        verified, status = made.verified, made.status
        for line in choice_lines(delivered, chosen):  # the path alone goes to standard output
            click.echo(line, err=True)
    else:
        paths = export_candidates(source, random_weights, runtime or "onnxruntime", out)
        verified, status = False, RANDOM
    click.echo(status[0].upper() + status[1:] + ".", err=True)
    if as_json:
        about = {"verified": verified, "status": status}
        print_json([{"key": path.parent.name, "path": str(path), **about} for path in paths])
    else:
        for path in paths:
            click.echo(path)


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
