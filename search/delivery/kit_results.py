"""Kit results: what a kit measured is checked, and only then written into the manifests of its run.

All is compared before anything is written: that the kit is this run's, that no file of it was
edited, that the machine is the one that was promised for, and that the models answer there as they
should. The answers that are expected are computed again, not taken from the kit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...cost_models.measure.bench import rows_of
from ...cost_models.measure.footprint import Footprint
from ...cost_models.runtimes import find_runtime
from ...cost_models.standalone.browser import read_saved
from ...cost_models.standalone.kit_files import (
    ANSWERS,
    KIT,
    KIT_FORMAT,
    MEASURED,
    MEASURED_FORMAT,
)
from ...cost_models.standalone.seal import SealError, check_files, read_sealed
from ...cost_models.standalone.timing import PLAN, RESULT
from ...cost_models.tables.latency_table import Row, different, quietest
from ...spaces.errors import RunError, VitParetoError
from ..config import load_config
from ..data.dataset import Data
from ..store.run_folder import RunFolder
from .artifact import read_model
from .artifact_timing import speed_of
from .build import Build
from .changed_files import changed_file
from .checks import ANSWERED, check_answers, float_distance, floor_on
from .claims import Check
from .confusion import class_results
from .formats import format_of
from .history import remember
from .kit import FEWEST, run_id
from .manifest import Manifest, manifests, write_manifest
from .mistakes import Mistake, keep_mistakes, mistakes
from .verify import Report, check_promises, metrics_of, rebuild


@dataclass(frozen=True)
class Results:
    """A kit that came back, whole and unedited.

    Attributes:
        source: its folder.
        kit: what its kit.json says.
        measured: what its measured.json says.
    """

    source: Path
    kit: Mapping[str, Any]
    measured: Mapping[str, Any]

    def answers(self, key: str) -> Tensor:
        """Answers of a model to the first images of the kit: (M, K).

        Raises:
            RunError: there are none, or the file holds something else.
        """
        name = f"{ANSWERS}/{key}.npy"
        if name not in self.measured["files"]:
            raise RunError(f"{self.source}: has no answers of {key}, so that none were compared")
        try:
            return torch.from_numpy(np.load(self.source / name, allow_pickle=False)).float()
        except (ValueError, TypeError, OSError) as error:
            raise RunError(f"{self.source / name}: holds no answers: {error}") from error

    def timed(self) -> tuple[dict[str, Row], dict[str, Footprint]]:
        """Rows and footprints of the models by key, and of their twins.

        Raises:
            RunError: the runtime refused a model.
        """
        rows, used = list[Row](), dict[str, Footprint]()
        for part in sorted({about["set"] for about in self.kit["models"].values()}):
            if f"{part}/{RESULT}" not in self.measured["files"]:
                raise RunError(f"{self.source / part}: was not measured: run it there again")
            graphs, found = self._of(part, PLAN)["graphs"], self._of(part, RESULT)
            for number, session in enumerate(found["sessions"]):
                rows += rows_of(graphs, session, f"{part}-{number}")
            measured = zip(graphs, found["footprints"], strict=False)
            used |= {entry["key"]: Footprint(*one) for entry, one in measured}
        timed = {row.key: row for row in quietest(rows)}
        for key in self.kit["models"]:
            if key not in timed:
                why = self.measured["models"][key].get("refused", "it was not timed")
                raise RunError(f"{self.source}: {key} does not run there: {why}")
            if not used.get(key, Footprint(0.0, 0.0)).growth_mb:
                raise RunError(f"{self.source}: the memory of {key} was not measured there")
        return timed, used

    def identities(self) -> list[Mapping[str, Any]]:
        """What every set of models says of the machine, and what measured.json says of it."""
        parts = {about["set"] for about in self.kit["models"].values()}
        return [self.measured["identity"], *(self._of(p, RESULT)["identity"] for p in parts)]

    def _of(self, part: str, name: str) -> Any:
        """A file of a set; its hash was compared."""
        return json.loads((self.source / part / name).read_text(encoding="utf-8"))


def read_results(source: Path, run: RunFolder) -> Results:
    """Read a kit that came back, and check that it is whole, unedited, and of this run.

    Raises:
        RunError: it is not.
    """
    if not source.is_dir():
        raise RunError(f"{source}: no such folder; a kit that was measured is one")
    try:
        kit = read_sealed(source / KIT, KIT_FORMAT)
        check_files(source, kit["files"])
        if kit["run"] != run_id(run):
            raise RunError(f"{source}: is a kit of another run, {kit['name']!r}")
        if not (source / MEASURED).is_file():
            raise RunError(
                f"{source}: has no {MEASURED}; run there first what README.txt in it says"
            )
        measured = read_sealed(source / MEASURED, MEASURED_FORMAT)
        check_files(source, measured["files"])
    except SealError as error:
        raise RunError(str(error)) from error
    if measured["kit"] != kit["digest"]:
        raise RunError(f"{source / MEASURED}: was measured with another kit")
    return Results(source, kit, measured)


def folder_of(source: Path) -> Path:
    """The folder of a kit that came back.

    Args:
        source: that folder; or what the page of the kit gave to be saved, put into the folder.

    Raises:
        RunError: the page did not measure this kit.
    """
    if source.is_dir() or not source.exists():
        return source
    try:
        read_saved(source.parent, source)
    except SealError as error:
        raise RunError(str(error)) from error
    return source.parent


def kit_device(run: RunFolder, source: Path) -> str:
    """Name of the device of a run for several that a kit was for; "" of a run for one.

    Raises:
        RunError: of several, the kit is not whole, unedited, of this run, and measured; or it is
            for none of them.
    """
    names = load_config(run.config).by_device
    if "" in names:
        return ""
    kit = read_results(source, run).kit
    by_device = {
        name: [m.device.to_dict() for m in manifests(run.of(name).pareto)] for name in names
    }
    for name, devices in by_device.items():
        if kit["device"] in devices:
            return name
    raise RunError(
        f"{source}: is a kit for {kit['device']['name']}, not for {', '.join(by_device)}"
    )


def verify_measured(run: RunFolder, source: Path, data: Data) -> list[Report]:
    """Take in what a kit measured: check it, and write it into the manifests of the run.

    Args:
        run: folder, open for writing.
        source: folder of the kit, with its results.
        data: images of the run.

    Raises:
        RunError: it is of another run or device, was edited, or the models answer otherwise there.
            Nothing is written then.
    """
    results = read_results(source, run)
    delivered = {manifest.key: manifest for manifest in manifests(run.pareto)}
    try:
        rows, used = results.timed()
        for key, about in results.kit["models"].items():
            _check_model(run, results, delivered.get(key), key, about)
    except VitParetoError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{source}: is not what run.py writes: {error!r}") from error
    done, wrong = list[Manifest](), dict[str, list[Mistake]]()
    for key in results.kit["models"]:
        examined, wrong[key] = _examined(run, results, delivered[key], rows, used[key], data)
        done.append(examined)
    keep_mistakes(run, "validation", wrong)
    remember(run, [*delivered.values()], done)
    for manifest in done:
        write_manifest(run.pareto / manifest.key, manifest)
    return [Report(m.key, m.checks, m.metrics, m.inside_interval, status=m.status) for m in done]


def _check_model(
    run: RunFolder,
    results: Results,
    manifest: Manifest | None,
    key: str,
    about: Mapping[str, Any],
) -> None:
    """Check that a model of a kit is one of the run, and was measured on its device.

    Raises:
        RunError: it is not.
    """
    source = results.source
    if manifest is None:
        raise RunError(f"{source}: {key} is none of the delivered models of {run.path}")
    if changed := changed_file(run.pareto / key, manifest.files):
        raise RunError(f"{run.pareto / key / changed}: has changed since delivery")
    if results.kit["files"][about["file"]] != manifest.files[format_of(manifest.device).file]:
        raise RunError(f"{source / about['file']}: is not {key} as the run delivered it")
    for identity in results.identities():
        if identity != manifest.identity:
            raise RunError(
                f"{source}: was measured on another device than {manifest.machine}: "
                + different(manifest.identity, identity, "for the run", "in the results")
            )


def _examined(
    run: RunFolder,
    results: Results,
    manifest: Manifest,
    rows: Mapping[str, Row],
    used: Footprint,
    data: Data,
) -> tuple[Manifest, list[Mistake]]:
    """A manifest with what was measured, and the mistakes of its model.

    Raises:
        RunError: the answers differ.
    """
    key, split, goal = manifest.key, data.split("validation"), manifest.goal
    build = rebuild(run.pareto / key, manifest, manifest.device, data)
    expected, found = build.logits(split), results.answers(key)
    asked = torch.tensor(results.kit["images"][: len(found)])
    _check_shape(results, key, found, expected)
    kernels = results.measured["models"][key]["kernels"]
    exact = _is_exact(build, found, expected[asked], manifest.device.runtime, kernels)
    checks = check_answers(exact, found, expected[asked], split.labels[asked], 0.0, goal)
    if failed := [check for check in checks if not check.holds]:
        raise RunError(f"{results.source}: {key} answers otherwise there: {failed[0]}")
    logits = expected.clone()
    logits[asked] = found  # of all other images it answers as torch does, as these say
    low = floor_on(split.labels, goal, manifest.promised.interval(goal)[0], manifest.trained)
    checks = check_answers(exact, logits, expected, split.labels, low, goal)
    form = format_of(manifest.device)
    content = read_model(run.pareto / key / form.file, form)
    inventory = form.inspect(content, kernels, manifest.device.runtime) if kernels else None
    speed = speed_of(manifest, rows)
    metrics = metrics_of(logits, split, rows[key], speed, used, len(content) / 1e6)
    examined = replace(
        manifest,
        metrics=metrics,
        inventory=inventory,
        answers=None,
        kit=results.kit["digest"],
        checks=[
            _compared(len(asked), len(split)),
            *checks,
            *check_promises(manifest, metrics, inventory),
        ],
        classes=class_results(logits, split.labels, manifest.preprocessing.class_names),
    )
    return examined, mistakes(logits, split.labels)


def _compared(asked: int, images: int) -> Check:
    """How many images were answered there."""
    return Check(ANSWERED, True, f"{asked} of {images}", f">= {FEWEST}")


def _check_shape(results: Results, key: str, found: Tensor, expected: Tensor) -> None:
    """Check that answers are as many, and of as many classes, as they should be.

    Raises:
        RunError: they are not.
    """
    fewest = min(FEWEST, len(results.kit["images"]))
    most, classes = len(results.kit["images"]), expected.shape[1]
    fits = found.ndim == 2 and found.shape[1] == classes and fewest <= len(found) <= most
    if not fits:
        raise RunError(
            f"{results.source}: answers of {key} must be of {fewest} to {most} images and "
            f"{classes} classes, got {tuple(found.shape)}"
        )


def _is_exact(
    build: Build, found: Tensor, expected: Tensor, runtime: str, kernels: Mapping[str, int]
) -> bool:
    """Whether logits must be close: nothing is rounded, by our choice or the runtime's."""
    distance, bound = float_distance(found, expected)
    return build.exact and (distance <= bound or not find_runtime(runtime).rounds(kernels))
