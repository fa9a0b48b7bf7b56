"""Handover: copies of artifacts, or candidates with random weights, in a folder of choice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...cost_models import Device
from ...cost_models.device import presets
from ...cost_models.runtime_spec import RUNTIMES
from ...cost_models.runtimes import find_runtime, open_runtime
from ...cost_models.standalone.seal import hashes_of
from ...cost_models.tables.anchors import Pace
from ...cost_models.units.precision_recipes import RECIPES
from ...spaces.errors import ConfigError, RunError, did_you_mean
from ..console import progress
from ..data.dataset import Data
from ..store.atomic_files import sync_folder
from ..store.candidate_files import read_candidates
from ..training.accuracy import accuracy
from .artifact import Artifact, load_network, read_candidate
from .changed_files import changed_file
from .checks import floor_on
from .claims import Accuracy
from .confusion import class_results
from .export import build_for, check_runs, chosen_recipes, export_random, export_trained
from .formats import format_of
from .manifest import Manifest, now, read_manifest, versions, write_manifest
from .program.onnxruntime import PART

RANDOM = "not verified: random weights, for latency work alone"  # status of such exports


def export_picked(
    pareto: Path, data: Callable[[], Data], chosen: Manifest, runtime: str | None, out: Path
) -> Path:
    """Export one delivered model of a run, as verified or made again for another runtime.

    Args:
        pareto: folder of a run's delivered models.
        data: loads the images of the run, for another runtime only.
        chosen: the one, such as `pick_model` finds.
        runtime: that of the run's device by default, for which the verified files are copied.
        out: folder in which the model gets its own.

    Returns:
        Path of the model; with exits, of its first part.

    Raises:
        ConfigError: no such runtime.
        MissingRuntimeError: the runtime is not installed here.
        RunError: a file has changed since, or the folder exists.
    """
    source = verified_folder(pareto, chosen)
    if runtime in (None, chosen.device.runtime):

        def copy(folder: Path) -> str:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            if chosen != read_manifest(source):  # of an old run for another machine
                write_manifest(folder, chosen)
            return PART.format(0) if chosen.exits else format_of(chosen.device).file

        return fill(out / chosen.key, copy)
    device = device_of(runtime)
    open_runtime(device)
    return fill(out / chosen.key, lambda to: remake(source, chosen, data(), device, to))


def verified_folder(pareto: Path, chosen: Manifest) -> Path:
    """The folder of a delivered model, whose files are those that were verified.

    Raises:
        RunError: one has changed since.
    """
    source = pareto / chosen.key
    if changed := changed_file(source, chosen.files):
        raise RunError(f"{source / changed}: has changed since it was verified")
    return source


def remake(source: Path, chosen: Manifest, data: Data, device: Device, folder: Path) -> str:
    """Make a verified model again for another runtime, and check its answers there.

    Returns:
        Name of the model's file.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the answers are not those of the verified model.
    """
    candidate = read_candidate(source)
    build = build_for(
        device,
        candidate,
        load_network(source),
        device.recipes,
        data,
        chosen.calibration_images,
        chosen.compensated,
    )
    files = export_trained(folder, build, device, chosen.preprocessing)
    split, artifact = data.split("validation"), Artifact.load(folder, device)
    goal = chosen.goal
    low = floor_on(split.labels, goal, chosen.promised.interval(goal)[0], chosen.trained)
    (logits, *_), checks = artifact.check_answers(build, split, low, goal)
    if failed := [check for check in checks if not check.holds]:
        raise RunError(f"{device.runtime}: {failed[0]}: nothing was written")
    manifest = replace(
        chosen,
        made=now(),
        versions=versions(),
        device=device,
        identity=device.identity(),
        recipes=chosen_recipes(candidate, build.recipes),
        files=hashes_of(folder, files),
        answers=Accuracy(**accuracy(logits, split.labels)),
        made_from=chosen.where
        if chosen.metrics
        else f"no runtime, but predicted for {chosen.device.name}",
        classes=class_results(logits, split.labels, data.class_names),
        checks=checks,
        # Latencies and limits are those of another runtime.
        anchors=Pace(),
        limits={},
        metrics=None,
        kit=None,
        inventory=None,
        test=None,
        test_classes=None,
        elsewhere=None,
    )
    write_manifest(folder, manifest)
    return artifact.format.file


def export_candidates(source: Path, random_weights: bool, runtime: str, out: Path) -> list[Path]:
    """Export candidates with random weights, each in its own precision.

    Args:
        source: JSON with one candidate or a list of them.
        random_weights: must be true; a candidate alone has no trained weights.
        runtime: whose recipes decide how a precision is stored.
        out: folder in which each gets its own.

    Raises:
        ConfigError: a file that is missing or has no candidates, or no runtime of that name.
        CostError: a precision that the runtime cannot run.
        MissingRuntimeError: the runtime is not installed here.
        RunError: a folder exists.
    """
    if not source.exists():
        raise ConfigError(f"{source}: no such run folder, and no such file of candidates")
    if not random_weights:
        raise ConfigError(
            f"{source}: a candidate has no weights: give a run folder, or --random-weights"
        )
    device = device_of(runtime)
    open_runtime(device)
    candidates = {c.key: c for c in read_candidates(source)}
    for key, candidate in candidates.items():  # all are checked before anything is written
        check_free(out / key)
        check_runs(candidate, device)
    paths: list[Path] = []
    with progress(len(candidates), "export", "model") as bar:
        for key, candidate in candidates.items():
            make = partial(export_random, candidate=candidate, device=device)
            paths.append(fill(out / key, make))
            bar.update()
    return paths


def device_of(runtime: str) -> Device:
    """The first preset device with a runtime, or its first provider with one thread.

    Raises:
        ConfigError: no such runtime, or one of which no provider is known.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(
            f"--runtime: no such runtime {runtime!r}. {did_you_mean(runtime, RUNTIMES)}"
        )
    devices = {d.runtime: d for d in map(Device.load, reversed(presets()))}
    if runtime in devices:
        return devices[runtime]
    spec = find_runtime(runtime)
    providers = list(spec.chips)
    if not providers:
        raise ConfigError(f"--runtime: {runtime} names no provider on which it runs")
    return Device(runtime, runtime, providers[0], 1, spec.recipes or tuple(RECIPES))


def fill(folder: Path, make: Callable[[Path], str]) -> Path:
    """Fill a folder under a temporary name, then rename it; path of the file made.

    Raises:
        RunError: it exists already.
    """
    check_free(folder)
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"{unfinished}: cannot be written: {error.strerror}") from error
    try:
        name = make(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder)
    sync_folder(folder.parent)
    return folder / name


def check_free(folder: Path) -> None:
    """Check that a folder does not exist.

    Raises:
        RunError: it does.
    """
    if folder.exists():
        raise RunError(f"{folder}: exists already, nothing was written")
