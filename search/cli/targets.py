"""Command `vitpareto targets`: where models can go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...spaces.errors import RunError
from ..letters import letters_of
from .folders import open_if_free
from .options import device_option
from .output import echo, json_option, print_json

if TYPE_CHECKING:
    from ..delivery.targets import Model
    from ..store.run_folder import RunFolder

RANDOM = 3  # candidates of a space beside its largest and its smallest
IMAGES = 64  # on which answers are compared


@click.command()
@click.argument("source", metavar="RUN|CANDIDATE|SPACE")
@click.option("--seed", type=int, default=0, help="Of the random candidates of a space.")
@device_option
@json_option
def targets(source: str, seed: int, device: str | None, as_json: bool) -> None:
    """Try models in every runtime: which convert, run and answer alike, how fast, how large.

    Of a RUN these are its delivered models with their trained weights, on its validation images;
    the table is kept there as targets.json, and its report shows it. A CANDIDATE is JSON as `space
    sample --json` prints it, a SPACE is a file or a preset, of which the largest, the smallest and
    some random candidates are tried; their weights are random.

    Differences are the largest of a logit to ONNX Runtime's, which are those of rounding where a
    model has low precision; the same answers are on this share of the images. Latencies are of
    this machine, with ~ where a cost model predicts what cannot be measured here. A runtime that is
    not installed has a row as well, which says what installs it.

    \b
      vitpareto targets runs/digits
      vitpareto targets mobile_hybrid --json
    """  # noqa: D301
    path = Path(source)
    if path.is_dir():
        rows = _of_run(path, device)
    else:
        from ..delivery.targets import try_targets

        models = _of_file(path) if path.suffix == ".json" else _of_space(source, seed)
        rows = _shown(lambda report: try_targets(models, progress=report))
    print_json(rows) if as_json else echo(target_lines(rows))


def _of_run(path: Path, device: str | None) -> list[dict[str, Any]]:
    """The table of the delivered models of a run, which keeps it."""
    from ..delivery.targets import try_targets
    from ..report import build_report
    from ..run.assets import Run
    from ..run.devices import of_device
    from ..store.atomic_files import write_json
    from ..store.run_folder import RunFolder

    whole = open_if_free(path)
    with whole, Run(of_device(RunFolder(path, lock=False), device)) as run:
        folder = of_device(whole, device)
        models = _delivered(folder, run)
        rows = _shown(lambda report: try_targets(models, run.device, report))
        if folder.is_open:
            write_json(folder.targets, rows)
            if folder.report.exists():
                build_report(folder)
    return rows


def _delivered(folder: RunFolder, run: Any) -> list[Model]:
    """Delivered models with their trained weights.

    Raises:
        RunError: the run has delivered none.
    """
    from ..data.dataset import resized
    from ..delivery.artifact import load_network, read_candidate
    from ..delivery.export import build_for
    from ..delivery.manifest import manifests
    from ..delivery.targets import Model

    data, models = run.data, list[Model]()
    images = data.split("validation").some(IMAGES).images
    listed = manifests(folder.pareto)
    for letter, manifest in zip(letters_of(listed), listed, strict=True):
        source = folder.pareto / manifest.key
        candidate, network = read_candidate(source), load_network(source)

        def build(device: Any, m: Any = manifest, c: Any = candidate, n: Any = network) -> Any:
            recipes = m.recipes if device == m.device else device.recipes
            return build_for(device, c, n, recipes, data, m.calibration_images, m.compensated)

        shown = resized(images, candidate.architecture.input_size).numpy()
        predicted = {manifest.device.runtime: manifest.promised.latency_ms}
        models.append(Model(letter, candidate, build, shown, predicted))
    if not models:
        raise RunError(f"{folder.path}: has delivered nothing yet")
    return models


def _of_file(path: Path) -> list[Model]:
    from ..store.candidate_files import read_candidates

    return [_random(candidate.key, candidate) for candidate in read_candidates(path)]


def _of_space(source: str, seed: int) -> list[Model]:
    from ...spaces import SearchSpace

    space = SearchSpace.from_yaml(source)
    drawn = {"largest": space.largest(), "smallest": space.smallest()}
    drawn |= {f"random {i + 1}": c for i, c in enumerate(space.sample(RANDOM, seed))}
    return [_random(name, candidate) for name, candidate in drawn.items()]


def _random(name: str, candidate: Any) -> Model:
    """A candidate with random weights, the same in every runtime."""
    import numpy as np

    from ...cost_models.graphs.modules import input_shape
    from ..delivery.export import FEWEST, random_build
    from ..delivery.targets import Model

    shape = input_shape(candidate, FEWEST)
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return Model(name, candidate, lambda device: random_build(device, candidate), images)


def _shown(work: Callable[[Callable[[float, str], None]], Sequence[Any]]) -> list[dict[str, Any]]:
    from ..console import share_bar

    with share_bar("targets") as report:
        return [row.to_dict() for row in work(report)]


def target_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models by runtime."""
    names = ("model", "runtime", "version")
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = [
        f"{_padded({name: name for name in names}, widths)} {'converts':8} {'runs':4} "
        f"{'difference':>10} {'same':>5} {'ms':>10} {'MB':>7}  precision, or what is missing"
    ]
    for row in rows:
        lines.append(
            f"{_padded(row, widths)} "
            f"{_told(row['converts']):8} {_told(row['runs']):4} "
            f"{_known(row['max_abs_difference'], '.1e'):>10} {_known(row['agreement'], '.0%'):>5} "
            f"{_latency(row):>10} {_known(row['size_mb'], '.3f'):>7}  "
            f"{row['missing'] or row['precision']}"
        )
    return lines


def _padded(row: Mapping[str, Any], widths: Mapping[str, int]) -> str:
    return " ".join(f"{row[name] or '-':{width}}" for name, width in widths.items())


def _latency(row: Mapping[str, Any]) -> str:
    if row["predicted_ms"] is not None:
        return f"~{row['predicted_ms']:.3f}"
    return _known(row["latency_ms"], ".3f")


def _known(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _told(holds: bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[holds]
