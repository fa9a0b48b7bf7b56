"""Opening: a run folder is made or continued, after its configuration is checked."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from ...cost_models import CostModel, Device
from ...cost_models.device import check_settings
from ...cost_models.predict.energy import LEAST
from ...cost_models.runtime_spec import ONNX
from ...cost_models.runtimes import find_runtime, open_runtime
from ...cost_models.standalone.energy_meter import find_meter
from ...cost_models.standalone.runner import machine
from ...spaces import SearchSpace
from ...spaces.errors import ConfigError, CostError, RunError, SpaceError, VitParetoError
from ...spaces.networks.refit import resized_network
from ...spaces.sizes import split_size
from ..config import AUTO, FEWEST_EXAMPLES, RunConfig, load_config
from ..data.loading import channels_and_classes
from ..executors import check_address
from ..scoring.evaluation import EDITION
from ..scoring.evaluation_log import read_evaluations
from ..store.atomic_files import read_json, write_atomic, write_json
from ..store.run_folder import RunFolder, RunPaths
from ..training.distribute import check_workers
from .devices import given_model, load_device
from .lengths import as_decided, keep_open, open_keys, with_workers
from .targeting import record, targeted_at_all

SCORED = ("evaluations", "comparison_scores")  # logs of candidates as the run scores them
# Sections that must not change when a run is resumed -> files that depend on them, without which
# they may; space, images, start and seed are behind everything.
FIXED: Mapping[str, tuple[str, ...]] = {
    "space": (),
    "data": (),
    "device": ("cost_model",),
    "start": (),
    "teacher": ("teacher", "teacher_checkpoint"),
    "distill": ("supernet", "supernet_checkpoint", "short_trainings", "proxy_trainings"),
    "supernet": ("supernet", "supernet_checkpoint"),
    "proxy": ("short_trainings", "proxy_trainings"),
    "forecast": ("short_trainings", *SCORED),
}
VERSIONS = ("vitpareto", "torch", "onnx", "onnxruntime", "optuna", "ray", "numpy", "scikit-learn")
ENERGY = "energy_mj"


def open_run(config: RunConfig, path: Path, resume: bool) -> RunFolder:
    """Make a run folder, or continue one.

    Errors of a configuration are found here, before anything is trained.

    Raises:
        RunError: the folder exists and `resume` is false, it belongs to another space or data
            set, or it cannot be written; or as `check_setup` and `check_ready_models`.
        ConfigError: no such device.
        MissingRuntimeError: its runtime is not installed here.
        CostError: the cost model cannot be read, nothing measures the energy that is asked for, or
            the device can execute nothing of the space.
    """
    paths = RunPaths(path)
    again = resume and paths.begun
    begun = paths if again else None
    if not again:
        RunFolder.check_free(path)
    devices = check_setup(config, begun)
    space, refusals = targeted_at_all(config, open_space(config, paths), devices, begun)
    check_forecast(config, space)
    check_ready_models(config, space, begun)
    if not again:
        keys, asked = open_keys(config), "budget" in config.model_fields_set
        config = with_workers(config)
        folder = RunFolder.create(path, config.to_yaml(), space.to_yaml())
        write_json(folder.environment, environment())
        for device, refused in zip(devices, refusals, strict=True):
            record(folder, device, refused)
        write_json(folder.budget, {"asked": asked, "open": keys, "chosen": {}})
        return folder
    folder = RunFolder(path)
    try:
        continued = _continued(config, space, folder)
    except VitParetoError:
        folder.close()
        raise
    keep_open(config, folder)
    write_atomic(folder.config, continued.to_yaml())
    if not _is_scored(folder, config):  # what is now scored is so in the way of this release
        write_json(folder.environment, read_json(folder.environment) | {"assembled": EDITION})
    return folder


def _is_scored(folder: RunFolder, config: RunConfig) -> bool:
    """Whether anything in a run folder depends on how candidates are scored."""
    return any(_exists(folder, config, file) for file in ("short_trainings", *SCORED))


def _continued(config: RunConfig, space: SearchSpace, folder: RunFolder) -> RunConfig:
    """The configuration of a run that goes on, with what it decided.

    Raises:
        RunError: what the folder holds would not fit.
    """
    path, before = folder.path, load_config(folder.config)
    config = as_decided(config, before, folder)
    changed = [
        name
        for name, files in FIXED.items()
        if getattr(before, name) != getattr(config, name)
        and (not files or any(_exists(folder, before, file) for file in files))
    ]
    was, now = ([device.name for device in c.devices] for c in (before, config))
    if was != now and "device" not in changed:
        changed.append("device")  # which was not tried when the space was narrowed for others
    if before.search.seed != config.search.seed:
        changed.append("search.seed")
    goal = config.search.goal
    was, is_limited = (goal in c.search.limits for c in (before, config))
    scored = any(_exists(folder, before, file) for file in SCORED)
    forecast = config.forecast.candidates > 0 and scored
    # With a budget such a limit is about short trainings, unless there are whole ones already.
    short = before.budget_s > 0 and not folder.whole_trainings.exists()
    if was != is_limited and forecast:
        changed.append(f"search.limits.{goal}")  # what was scored is of short or of whole trainings
    elif is_limited and forecast and short and not config.budget_s:
        changed.append("budget")
    if _other_recipe(folder, before, config):
        changed.append("finish")
    if not changed and SearchSpace.from_yaml(folder.space) != space:
        changed.append(f"the contents of {config.space}")
    if changed:
        raise RunError(
            f"{path}: cannot be resumed with another {', '.join(changed)}: what it holds would "
            "not fit; name another folder with --run-dir"
        )
    edition = read_json(folder.environment).get("assembled", 1)
    if edition != EDITION and _is_scored(folder, config):
        raise RunError(
            f"{path}: cannot be resumed: another release scored its candidates in another way; "
            "name another folder with --run-dir"
        )
    if unknown := _unmeasured(folder, config):
        raise RunError(
            f"{path}: cannot be resumed with {unknown}: the release that scored its candidates did "
            "not measure it; name another folder with --run-dir"
        )
    return config


def _other_recipe(folder: RunFolder, before: RunConfig, config: RunConfig) -> bool:
    """Whether what a forecast learned from was finished in another way than models would be now."""
    some, whole = folder.short_trainings.exists(), folder.whole_trainings.exists()
    if not (whole or (some and config.start.model)):  # others are trained as `proxy` says
        return False
    length = () if whole else ("epochs",)
    first, second = (c.finish.recipe(*length) for c in (before, config))
    return first != second


def _exists(folder: RunFolder, config: RunConfig, file: str) -> bool:
    """Whether a run has a file, or one of its kind such as evaluations-0.5, of any device."""
    paths: list[Path] = [getattr(folder.of(device), file) for device in config.by_device]
    return any(any(path.parent.glob(f"{path.stem}*{path.suffix}")) for path in paths)


def _unmeasured(folder: RunFolder, config: RunConfig) -> str:
    """The first accuracy that is asked for and that scored candidates lack; empty if none does."""
    files = ("short_trainings", *SCORED)
    logs = (read_evaluations(getattr(folder, file))[0] for file in files)
    known = [e.metrics for log in logs for e in log if e.status == "complete"]
    wanted = (o.name for o in config.search.resolve() if o.maximize)
    return next((name for name in wanted if any(name not in m for m in known)), "")


def check_setup(config: RunConfig, begun: RunPaths | None = None) -> list[Device]:
    """Check all that a run needs beside its space, images and models; its devices.

    Args:
        config: of the run.
        begun: its folder if it is continued.

    Raises:
        RunError: a package for `supernet.workers` is not installed, or no cluster answers.
        ConfigError: no such device.
        MissingRuntimeError: its runtime is not installed here, where it is needed.
        CostError: the cost model cannot be read or is of other settings, or nothing measures the
            energy that is asked for.
    """
    check_workers(config.supernet.workers)
    check_address(config.executor)
    sides = [(config.on(name), begun and begun.of(name)) for name in config.by_device]
    return [_check_device(side, paths) for side, paths in sides]


def check_forecast(config: RunConfig, space: SearchSpace) -> None:
    """Check that a space has as many candidates as a forecast learns from.

    Raises:
        ConfigError: it has fewer.
    """
    if config.forecast.candidates and space.size < FEWEST_EXAMPLES:
        raise ConfigError(
            f"forecast.candidates: a forecast learns from at least {FEWEST_EXAMPLES} candidates, "
            f"and {space.name} has {space.size}: set forecast.candidates to 0"
        )


def _check_device(config: RunConfig, begun: RunPaths | None) -> Device:
    """Check the device of a run for one; see `check_setup`."""
    kept = begun.cost_model if begun else None
    device, given = load_device(config.devices[0], kept), given_model(config.devices[0])
    kept = given or kept
    model = CostModel.load(kept) if kept and (given or kept.is_file()) else None
    if model and model.identity != device.identity():
        # Neither its runtime nor its provider is needed here, but where files are converted.
        check_settings(device, model.identity, str(kept))
        if find_runtime(device.runtime).format != ONNX:
            open_runtime(device)
    else:
        open_runtime(device)
    if model:
        require_energy(config, model)
    elif needs_energy(config) and not (meter := find_meter(device.chip))[0]:
        raise CostError(f"search: nothing here can measure {ENERGY}: {meter[1]}")
    return device


def check_ready_models(
    config: RunConfig, space: SearchSpace, begun: RunPaths | None = None
) -> None:
    """Load the trained models that a run starts with, before anything is done for them.

    Args:
        config: of the run.
        space: with the channels and classes of its images.
        begun: its folder if it is continued; what was made of a model is not looked at again.

    Raises:
        RunError: a model or its weights cannot be had or do not fit.
        SpaceError: the start has no counterpart in our vocabulary, or is not the largest network
            of the space.
    """
    with torch.random.fork_rng(devices=[]):
        if config.start.model and not (begun and begun.start.exists()):
            from ..start.fitted import open_start, place

            place(open_start(config.start), space)
        if config.teacher.model and not (begun and begun.teacher.exists()):
            from ..training.timm_models import load_teacher  # timm takes a second to load

            classes = space.largest().architecture.num_classes
            load_teacher(config.teacher, classes)


def needs_energy(config: RunConfig) -> bool:
    """Whether energy is traded or limited."""
    return any(objective.name == ENERGY for objective in config.search.resolve())


def require_energy(config: RunConfig, model: CostModel) -> None:
    """Check that a cost model predicts energy if a run asks for it.

    Raises:
        CostError: it does not.
    """
    if needs_energy(config) and model.energy is None:
        raise CostError(
            f"search: the cost model says nothing of {ENERGY}: fewer than {LEAST} networks had "
            "their energy measured"
        )


def open_space(config: RunConfig, paths: RunPaths) -> SearchSpace:
    """The space of a run, with the channels and classes of its images.

    Raises:
        ConfigError: it is to be derived from a start, and there is none, or nothing in it has what
            `export.distill_token` is about.
        RunError: the images cannot be read, or the start cannot be had.
    """
    space = named_space(config, paths)
    size = space.largest().architecture.input_size
    if config.export.distill_token != "fused" and not _has_distillation_token(space):
        raise ConfigError(
            f"export.distill_token: {config.export.distill_token!r} is for networks with such a "
            f"token, of which {config.space!r} has none: say global_pool: distill in the space"
        )
    channels, classes = channels_and_classes(config.data, size, paths)
    return space.replace(in_chans=channels, num_classes=classes)


def _has_distillation_token(space: SearchSpace) -> bool:
    """Whether any of its networks has one."""
    return any(c.architecture.global_pool == "distill" for c in space.covering())


def named_space(config: RunConfig, paths: RunPaths | None = None) -> SearchSpace:
    """The space that a configuration names, with the channels and classes that it says.

    Args:
        config: of the run.
        paths: of its folder, whose space it is where it was derived for that.

    Raises:
        ConfigError: it is to be derived from a start, and there is none.
        RunError: the start cannot be had.
        SpaceError: the start is bound to its image size, and another is asked for.
    """
    if not config.derives_space:
        return SearchSpace.from_yaml(config.space)
    if not config.start.model:
        raise ConfigError(f"space: {AUTO} is derived from a start: name one in start.model")
    if paths and paths.begun:
        return SearchSpace.from_yaml(paths.space)
    size = split_size(config.space)[1]
    from ..start.derive import derive_space  # timm takes a second to load
    from ..start.fitted import open_start

    with torch.random.fork_rng(devices=[]):
        start = config.start
        network = open_start(start).network
        try:
            if size:
                network = resized_network(network, size, network.architecture.patch_size)
        except SpaceError as error:
            raise SpaceError(f"space: {config.space}: {start.model}: {error}") from None
        return derive_space(network, start.model, start.search)


def environment() -> dict[str, Any]:
    """Versions, machine and command, which a run depends on but does not choose."""
    return {
        "run": uuid4().hex,
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": machine(),
        "assembled": EDITION,  # and forecast; the key is as old as the first of them
        "versions": {name: metadata.version(name) for name in VERSIONS},
    }
