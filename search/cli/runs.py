"""Commands that look at a run, or extend it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from .options import device_option, overrides_option, run_argument, run_dir_option
from .output import echo, json_option, print_json


@click.command()
@run_argument
@device_option
@click.option(
    "--rewrites",
    is_flag=True,
    help="Also with layer norm, group norm and hardswish in other operations, exact and lossy.",
)
@json_option
def ladder(run: Path, device: str | None, rewrites: bool, as_json: bool) -> None:
    """Measure the models of RUN beside the original, float16, int8 and other baselines.

    Each searched model is also there with the same bits everywhere, where the device runs them.

    Baselines are trained first, as the delivered models were; stopped, the same command goes on.
    Those that keep the limits and that no delivered model beats are delivered, too. The report of
    RUN shows the table.

    --rewrites measures the original and the most accurate delivered model with each rewrite that
    suits them: what an exact one saves, and what the naive swap in its place costs.
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
        rows, goal = (
            [row.to_dict() for row in build_ladder(opened, rewrites)],
            opened.config.search.goal,
        )
        build_report(folder)
        added = [m for m in manifests(folder.pareto) if m.ladder]
    print_json(rows) if as_json else echo(ladder_lines(rows, goal, added))


@click.command()
@run_argument
@click.option("--markdown", is_flag=True, help="Also print the delivered models as a table.")
@json_option
def report(run: Path, markdown: bool, as_json: bool) -> None:
    """Build report and picture of RUN again, from its files alone."""
    from ..store.run_folder import RunFolder

    folder = RunFolder(run, lock=False)  # before what takes seconds to import
    from ..config import load_config
    from ..delivery.manifest import manifests
    from ..report import build_report
    from .text import model_table

    build_report(folder)
    if as_json:
        print_json({"report": str(folder.report), "picture": str(folder.picture)})
    else:
        click.echo(folder.report)
        for name in load_config(folder.config).by_device if markdown else ():
            title = ["", f"On {name}:", ""] if name else []
            echo([*title, *model_table(manifests(folder.of(name).pareto))])


@click.command()
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
        print_json(state.to_dict())
        return
    with Server(paths, port) as server, contextlib.suppress(KeyboardInterrupt):
        words = "waiting for a run there" if state.state == "waiting" else state.state
        click.echo(f"{run}: {words}; watch it at {server.url}; Ctrl-C ends this page, not the run")
        if opened:
            webbrowser.open(server.url)
        server.serve_forever()


@click.command()
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
    from ..pipeline import beside_search
    from ..report import build_report
    from ..run.assets import Run
    from ..run.opening import open_run
    from ..run.stages import logging_to
    from .text import proxy_lines

    path = run_dir or Path("runs") / Path(config).stem
    loaded = load_config(config, overrides)
    with open_run(loaded, path, True) as folder, logging_to(folder.log), Run(folder) as run:
        with beside_search(run):
            figures = check_proxy(run, count)
        if folder.report.exists():
            build_report(folder)
    if as_json:
        print_json(figures)
    else:
        echo([*proxy_lines(figures), f"Picture: {folder.proxy_picture}"])
