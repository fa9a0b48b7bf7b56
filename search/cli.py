"""The command line. Everything heavy is imported inside the commands, so that help is instant."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..spaces.errors import VitParetoError

if TYPE_CHECKING:
    from .run import Run

FAILED, BAD_INPUT, NOT_VERIFIED = 1, 2, 3

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
run_argument = click.argument("run", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vitpareto")
def cli() -> None:
    """Find, compress and deliver the vision transformers that suit a device."""


def main() -> None:
    """Run the command line; every error the project raises on purpose is one line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clusters pre-empt with it
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(FAILED)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except VitParetoError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        click.echo("Interrupted. What was finished is kept: --resume goes on.", err=True)
        sys.exit(FAILED)


@cli.command()
@click.argument("config")
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    help="Run folder; runs/NAME by default.",
)
@click.option("--resume", is_flag=True, help="Continue the run that is in the folder, if any.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the configuration, such as search.trials=300.",
)
@click.option("--seed", type=int, help="Short for --set search.seed=N.")
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
    names: tuple[str, ...],
    seeds: int,
    as_json: bool,
) -> None:
    """Search, and deliver the best models verified: the whole job.

    CONFIG is a run file or the name of a preset, such as digits.
    """
    from .config import load_config

    if seed is not None:
        overrides = (*overrides, f"search.seed={seed}")
    loaded = load_config(config, overrides)
    from .run import Run, logging_to, open_run

    path = run_dir or Path("runs") / Path(config).stem
    with open_run(loaded, path, resume) as folder, logging_to(folder.log):
        if names:
            _compare(Run(folder), names, seeds, as_json)
            return
        delivered = Run(folder).all()
    if as_json:
        _print(delivered)
    else:
        _print_models(delivered)
        click.echo(f"Report: {folder.report}")
    sys.exit(0 if all(m["verified"] for m in delivered) else NOT_VERIFIED)


@cli.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--pick", default="knee", metavar="KEY|knee|fastest|best", help="Which of a run.")
@click.option("--random-weights", is_flag=True, help="For latency work, without a run.")
@click.option("--runtime", help="Of the artifact; that of the run, or onnxruntime, by default.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@json_option
def export(
    source: Path, pick: str, random_weights: bool, runtime: str | None, out: Path, as_json: bool
) -> None:
    """Write a deployable artifact of a run, or of candidates with random weights.

    SOURCE is a run folder, or a JSON file with one candidate or a list of them.
    """
    from .hand_over import export_candidates, export_picked

    if source.is_dir():
        from .run import Run
        from .store import RunFolder

        paths = [export_picked(Run(RunFolder(source, lock=False)), pick, runtime, out)]
    else:
        paths = export_candidates(source, random_weights, runtime or "onnxruntime", out)
    if as_json:
        _print([{"key": path.parent.name, "path": str(path)} for path in paths])
    else:
        for path in paths:
            click.echo(path)


@cli.command()
@run_argument
@json_option
def verify(run: Path, as_json: bool) -> None:
    """Check every delivered artifact of RUN again, on its runtime."""
    from .run import Run
    from .store import RunFolder
    from .verify import verify_again

    opened = Run(RunFolder(run, lock=False))
    reports = verify_again(opened.folder, opened.device, opened.data)
    if as_json:
        _print(reports)
    else:
        for report in reports:
            for check in report["checks"]:
                mark = "ok" if check["holds"] else "FAILED"
                found = check["found"]
                found = f"{found:.4g}" if isinstance(found, float) else found
                click.echo(
                    f"{report['key']}  {mark:6}  {check['name']}: {found}, wanted {check['wanted']}"
                )
    sys.exit(0 if all(r["verified"] for r in reports) else NOT_VERIFIED)


@cli.command()
@run_argument
@json_option
def report(run: Path, as_json: bool) -> None:
    """Build report and picture of RUN again, from its files alone."""
    from .report import build_report
    from .store import RunFolder

    folder = RunFolder(run, lock=False)
    build_report(folder)
    if as_json:
        _print({"report": str(folder.report), "picture": str(folder.picture)})
    else:
        click.echo(folder.report)


@cli.group()
def space() -> None:
    """Look into a search space before anything is trained."""


space_argument = click.argument("source", metavar="SPACE")


@space.command()
@space_argument
@json_option
def show(source: str, as_json: bool) -> None:
    """Print what SPACE, a file or a preset, holds."""
    from ..spaces import SearchSpace
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
    from ..spaces import SearchSpace

    found = SearchSpace.from_yaml(source).size
    if as_json:
        _print({"size": found})
    else:
        click.echo(found)


@space.command()
@space_argument
@click.option("-n", "count", type=click.IntRange(min=1), default=1, help="How many.")
@click.option("--seed", type=int, default=0, help="The same seed draws the same candidates.")
@json_option
def sample(source: str, count: int, seed: int, as_json: bool) -> None:
    """Draw candidates from SPACE; --json prints what `predict` and `export` read."""
    from ..spaces import SearchSpace
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


def _compare(run: Run, names: Sequence[str], seeds: int, as_json: bool) -> None:
    from .compare import compare_run, comparison_text

    outcomes = compare_run(run, names, seeds)
    if as_json:
        _print([outcome.to_dict() for outcome in outcomes])
    else:
        click.echo(comparison_text(outcomes))
        click.echo(f"Fronts: {run.folder.path / 'comparison.png'}")


def _print(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_models(manifests: list[dict[str, Any]]) -> None:
    """One line a delivered model, the fastest first."""
    click.echo(f"{'model':16}  {'accuracy':>8}  {'test':>6}  {'ms':>7}  {'MB':>6}  verified")
    for m in manifests:
        found = m["metrics"]
        click.echo(
            f"{m['key']:16}  {found['accuracy']:8.1%}  {m['test']['accuracy']:6.1%}  "
            f"{found['latency_ms']:7.3f}  {found['size_mb']:6.3f}  "
            f"{'yes' if m['verified'] else 'no'}"
        )
