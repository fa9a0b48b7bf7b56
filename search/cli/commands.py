"""Commands. Heavy modules are imported inside them, so that help is instant."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...spaces.errors import RunError, VitParetoError
from ...spaces.packages import needed
from .costs import costs
from .data import data
from .library import library
from .output import echo as _echo
from .output import json_option
from .output import print_json as _print
from .profile import profile
from .targets import targets

if TYPE_CHECKING:
    from ..run.assets import Run
    from ..store.run_folder import RunFolder

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vitpareto")
def cli() -> None:
    """Find, compress and deliver the vision transformers that suit a device."""


def main() -> None:
    """Run the command line; errors of this project are printed in one line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clusters preempt with it
    try:
        with needed(" ".join(sys.argv[1:2])):
            cli(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click turns the second into the first
        click.echo("Interrupted. What was finished is kept: the same command goes on.", err=True)
        sys.exit(FAILED)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except VitParetoError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(BAD_INPUT)


@cli.command()
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
        _print(planned.to_dict()) if as_json else _echo(plan_lines(planned))
        return
    from .. import pipeline
    from ..run.assets import Run
    from ..run.opening import open_run
    from ..run.stages import logging_to, stage_lines
    from ..store.atomic_files import read_json

    changes = [word for override in overrides for word in ("--set", override)]
    with (
        _resumable(["search", config, "--run-dir", str(path), *changes, "--resume"]),
        open_run(loaded, path, resume) as folder,
        logging_to(folder.log),
        Run(folder) as run,
    ):
        if names:
            _compare(run, names, seeds, as_json)
            return
        delivered = pipeline.search(run)
    if as_json:
        _print([manifest.row() for manifest in delivered])
    else:
        stages = stage_lines(read_json(folder.stages))
        by_device = [m for name in run.config.by_device for m in _delivered_lines(folder, name)]
        _echo([*by_device, "", *stages, "", f"Report: {folder.report}"])
    sys.exit(NOT_VERIFIED if any(m.broken for m in delivered) else 0)


@cli.command()
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
        _print([{"key": path.parent.name, "path": str(path), **about} for path in paths])
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
        _print({"kit": str(out), "models": [manifest.key for manifest in kit.delivered]})
    else:
        click.echo(f"{out}: bring it to {kit.device.name}; {out / 'README.txt'} says what to type")


@cli.command()
@run_argument
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Take in what a kit of RUN measured on the machine that the models are for.",
)
@json_option
def verify(run: Path, measured: Path | None, as_json: bool) -> None:
    """Check every delivered artifact of RUN again, on its runtime.

    On the device that they are made for, what is measured now takes the place of what was measured
    before, in the manifests, in the report and in everything that reads them. Of models for another
    machine only files and answers are checked.

    With --measured, DIR is the kit that came back. Run, files, machine and answers are checked;
    only then the measurements are written, and the models verified, on that machine. Whatever
    does not fit is told in one line, and nothing is overwritten.

    \b
      vitpareto export runs/phone --kit kit
      vitpareto verify runs/phone --measured kit
    """  # noqa: D301
    if measured is not None:
        _verify_measured(run, measured, as_json)
        return
    from ..delivery.verify import verify_again
    from ..report import build_report
    from ..run.assets import Run
    from ..store.run_folder import RunFolder
    from .text import check_lines

    try:
        folder = RunFolder(run)
    except RunError as error:
        folder = RunFolder(run, lock=False)
        click.echo(f"{error}: it is checked, and nothing in it is refreshed", err=True)
    with folder, Run(RunFolder(run, lock=False)) as opened:  # which writes nothing, no image either
        checked = {
            name: verify_again(folder.of(name), side.device, opened.data)
            for name, side in opened.sides.items()
        }
        if folder.is_open and folder.report.exists():
            build_report(folder)
    if as_json:
        on = {name: {"device": name} if name else {} for name in checked}
        _print([r.to_dict() | on[name] for name, reports in checked.items() for r in reports])
    else:
        for name, reports in checked.items():
            _echo([*([f"{name}:"] if name else []), *check_lines(reports)])
    holds = all(r.holds for reports in checked.values() for r in reports)
    sys.exit(0 if holds else NOT_VERIFIED)


def _verify_measured(run: Path, measured: Path, as_json: bool) -> None:
    from ..delivery.kit_results import kit_device, verify_measured
    from ..report import build_report
    from ..run.assets import Run
    from ..store.run_folder import RunFolder
    from .text import check_lines

    with RunFolder(run) as folder, Run(RunFolder(run, lock=False)) as opened:
        reports = verify_measured(folder.of(kit_device(folder, measured)), measured, opened.data)
        if folder.report.exists():
            build_report(folder)
    _print([r.to_dict() for r in reports]) if as_json else _echo(check_lines(reports))
    sys.exit(0 if all(r.holds for r in reports) else NOT_VERIFIED)


@cli.command()
@run_argument
@device_option
@json_option
def ladder(run: Path, device: str | None, as_json: bool) -> None:
    """Measure the models of RUN beside the original, float16, int8 and other baselines.

    Baselines are trained first, as the delivered models were; stopped, the same command goes on.
    Those that keep the limits and that no delivered model beats are delivered, too. The report of
    RUN shows the table.
    """
    from ..delivery.manifest import manifests
    from ..experiments.ladder import build_ladder
    from ..report import build_report
    from ..run.assets import Run
    from ..run.devices import of_device
    from ..run.stages import logging_to
    from ..store.run_folder import RunFolder
    from .text import ladder_lines

    with (
        RunFolder(run) as whole,
        logging_to(whole.log),
        Run(folder := of_device(whole, device)) as opened,
    ):
        rows, goal = [row.to_dict() for row in build_ladder(opened)], opened.config.search.goal
        build_report(folder)
        added = [m for m in manifests(folder.pareto) if m.ladder]
    _print(rows) if as_json else _echo(ladder_lines(rows, goal, added))


@cli.command()
@run_argument
@click.option("--markdown", is_flag=True, help="Also print the delivered models as a table.")
@json_option
def report(run: Path, markdown: bool, as_json: bool) -> None:
    """Build report and picture of RUN again, from its files alone."""
    from ..config import load_config
    from ..delivery.manifest import manifests
    from ..report import build_report
    from ..store.run_folder import RunFolder
    from .text import model_table

    folder = RunFolder(run, lock=False)
    build_report(folder)
    if as_json:
        _print({"report": str(folder.report), "picture": str(folder.picture)})
    else:
        click.echo(folder.report)
        for name in load_config(folder.config).by_device if markdown else ():
            title = ["", f"On {name}:", ""] if name else []
            _echo([*title, *model_table(manifests(folder.of(name).pareto))])


@cli.command()
@run_argument
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Of the page; 0 takes a free one. [default: 8642]"
)
@click.option("--open", "opened", is_flag=True, help="Also open it in the browser.")
@json_option
def watch(run: Path, port: int | None, opened: bool, as_json: bool) -> None:
    """Show RUN live in a browser of this machine: stages, time left, the front, the log.

    The page reads the run folder and changes nothing. A run that does not exist yet is waited for.
    --json prints once how far it is.
    """
    import webbrowser

    from ..store.run_folder import RunPaths
    from ..watch.server import Server
    from ..watch.state import read_state

    paths = RunPaths(run)
    state = read_state(paths)
    if as_json:
        _print(state.to_dict())
        return
    with Server(paths, port) as server, contextlib.suppress(KeyboardInterrupt):
        words = "waiting for a run there" if state.state == "waiting" else state.state
        click.echo(f"{run}: {words}; watch it at {server.url}; Ctrl-C ends this page, not the run")
        if opened:
            webbrowser.open(server.url)
        server.serve_forever()


@cli.command()
@click.argument("config")
@click.option("-n", "count", type=click.IntRange(min=4), default=40, help="Candidates to train.")
@run_dir_option
@overrides_option
@json_option
def proxy(
    config: str, count: int, run_dir: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Check how far scores can be trusted: train candidates alone, and compare.

    CONFIG is a run file or the name of a preset. Teacher, supernet and trainings that are in
    the run folder are not repeated.
    """
    from ...cost_models.openmp import wait_briefly

    wait_briefly()
    from ..config import load_config
    from ..experiments.proxy_check import check_proxy
    from ..report import build_report
    from ..run.assets import Run
    from ..run.opening import open_run
    from ..run.stages import logging_to
    from .text import proxy_lines

    path = run_dir or Path("runs") / Path(config).stem
    loaded = load_config(config, overrides)
    with open_run(loaded, path, True) as folder, logging_to(folder.log), Run(folder) as run:
        figures = check_proxy(run, count)
        if folder.report.exists():
            build_report(folder)
    if as_json:
        _print(figures)
    else:
        _echo([*proxy_lines(figures), f"Picture: {folder.proxy_picture}"])


@cli.group()
def space() -> None:
    """Look into a search space before anything is trained."""


space_argument = click.argument("source", metavar="SPACE")


@space.command()
@space_argument
@json_option
def show(source: str, as_json: bool) -> None:
    """Print what SPACE, a file or a preset, holds; NAME@PIXELS is a preset for other images."""
    from ...spaces import SearchSpace
    from .describe import describe_space, space_text

    opened = SearchSpace.from_yaml(source)
    if as_json:
        _print(describe_space(opened))
    else:
        click.echo(space_text(opened))


@space.command()
@space_argument
@json_option
def size(source: str, as_json: bool) -> None:
    """Print how many different candidates SPACE has, exactly."""
    from ...spaces import SearchSpace

    candidates = SearchSpace.from_yaml(source).size
    if as_json:
        _print({"size": candidates})
    else:
        click.echo(candidates)


@space.command()
@space_argument
@click.option("-n", "count", type=click.IntRange(min=1), default=1, help="How many.")
@click.option("--seed", type=int, default=0, help="The same seed draws the same candidates.")
@json_option
def sample(source: str, count: int, seed: int, as_json: bool) -> None:
    """Draw candidates from SPACE; --json prints what `predict` and `export` read."""
    from ...spaces import SearchSpace
    from .describe import describe_candidate, facts

    candidates = SearchSpace.from_yaml(source).sample(count, seed)
    if as_json:
        _print([describe_candidate(candidate) for candidate in candidates])
    else:
        click.echo(f"{'key':16}  {'blocks':>6}  {'params':>12}  {'MACs':>14}  {'weights':>10}")
        for candidate in candidates:
            f = facts(candidate)
            click.echo(
                f"{f['key']}  {f['blocks']:6}  {f['params']:12,}  {f['macs']:14,}  "
                f"{f['weight_mb']:7.2f} MB"
            )


@space.command()
@click.argument("model")
@click.option(
    "--checkpoint",
    metavar="FILE",
    default="",
    help="Its weights: .safetensors, .pth, a training checkpoint of timm, or .npz of JAX.",
)
@click.option("--random-weights", is_flag=True, help="Read no weights; nothing is downloaded.")
@click.option("--classes", type=click.IntRange(min=0), help="Of its head; those of its weights.")
@click.option("--input-size", type=click.IntRange(min=1), help="Pixels; those of the model.")
@click.option(
    "--search",
    "choices",
    metavar="NAME,...",
    default="",
    help="Only these choices, such as weight_bits,rank_ratio,token_keep; all that suit by default.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="SPACE.yaml")
@json_option
def derive(
    model: str,
    checkpoint: str,
    random_weights: bool,
    classes: int | None,
    input_size: int | None,
    choices: str,
    out: Path,
    as_json: bool,
) -> None:
    """Write a space whose largest member is MODEL, a vision transformer of others.

    MODEL is a name of timm, hf-hub:ORG/NAME, a folder that transformers or timm saved
    (local-dir:PATH), or torchvision:NAME. Its logits are compared with those of the member.
    """
    from ..start.derive import derived
    from ..start.models import open_model

    opened = open_model(
        model,
        checkpoint=checkpoint,
        random_weights=random_weights,
        classes=classes,
        input_size=input_size,
    )
    names = [name.strip() for name in choices.split(",") if name.strip()]
    made, found = derived(opened, model, names)
    out.parent.mkdir(parents=True, exist_ok=True)
    header = (
        f"# Purpose: slices of {model}, which is the largest member.\n"
        f"# Expected: {made.size:.1e} candidates of at most {found['params'] / 1e6:.1f} million "
        f"parameters, {found['macs'] / 1e6:.0f} million MACs.\n"
        f"# Command: vitpareto space derive {model} --out {out.name}\n"
    )
    out.write_text(header + made.to_yaml())
    if as_json:
        _print(found | {"space": str(out)})
    else:
        click.echo(
            f"{out}: {made.size:.1e} candidates, the largest is {model} (key {found['key']}): "
            f"{found['params']:,} parameters, {found['macs']:,} MACs, logits differ by "
            f"{found['max_abs_difference']:.1e}"
        )


def _compare(run: Run, names: Sequence[str], seeds: int, as_json: bool) -> None:
    from ..experiments.sampler_comparison import compare_run, comparison_text

    outcomes = compare_run(run, names, seeds)
    if as_json:
        _print([outcome.to_dict() for outcome in outcomes])
    else:
        click.echo(comparison_text(outcomes))
        click.echo(f"Fronts: {run.folder.comparison_picture}")


@cli.command()
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
        _print({"bundle": str(bundle), "graphs": graphs}) if as_json else click.echo(
            f"{bundle}: {graphs} graphs; copy it to the device and run `python run.py` there"
        )
        return
    if out is None:
        raise click.UsageError("--out MODEL.json is needed, or --bundle DIR")
    from ...cost_models.calibration.calibrate import calibrate as measure

    with share_bar("calibrate") as report:
        model = measure(opened, space, budget_s, seed, tables=tables, out=out, progress=report)
    if as_json:
        _print(model.validation)
    else:
        for name, value in model.validation.items():
            click.echo(
                f"{name:20} {value:.4g}" if isinstance(value, float) else f"{name:20} {value}"
            )


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@json_option
def predict(model: Path, files: tuple[Path, ...], as_json: bool) -> None:
    """Predict latency, memory and size of candidates and of ONNX files.

    MODEL is what `calibrate` wrote, or cost_model.json of a run folder. A FILE is JSON with one
    candidate or a list of them, as `space sample --json` prints, or an ONNX file of static shapes,
    from anywhere. Of an ONNX file it says which share of the time lies within what was measured;
    the rest is a guess from its multiply-accumulates, and the interval is wider.

    \b
      vitpareto predict cifar.json candidates.json model.onnx
    """  # noqa: D301
    from ...cost_models import CostModel
    from ..store.candidate_files import read_candidates
    from .text import prediction_lines

    opened, rows = CostModel.load(model), list[dict[str, Any]]()
    for file in files:
        if file.suffix.lower() == ".onnx":
            from ...cost_models import predict_onnx  # imports onnx

            rows.append({"key": str(file), **predict_onnx(opened, file).row()})
            continue
        predicted = opened.predict(read := read_candidates(file))
        rows += [{"key": candidate.key, **predicted.row(i)} for i, candidate in enumerate(read)]
    _print(rows) if as_json else _echo(prediction_lines(rows))


@cli.command()
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
        _print({"devices": listed, "capabilities": tables, "refused": refused})
    else:
        _echo(device_lines(listed, tables, refused))


def _delivered_lines(folder: RunFolder, device: str) -> list[str]:
    """The delivered models of a device, of several with its name."""
    from ..delivery.manifest import manifests
    from .text import model_lines

    lines = model_lines(manifests(folder.of(device).pareto))
    return [f"on {device}:", *lines, ""] if device else lines


cli.add_command(costs)
cli.add_command(data)
cli.add_command(library)
cli.add_command(profile)
cli.add_command(targets)


@contextlib.contextmanager
def _resumable(words: Sequence[str]) -> Generator[None]:
    """Print the command that continues after Ctrl-C or SIGTERM."""
    try:
        yield
    except KeyboardInterrupt:
        command = shlex.join(["vitpareto", *words])
        click.echo(f"Interrupted. What was finished is kept; go on with: {command}", err=True)
        sys.exit(FAILED)
