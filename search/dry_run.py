"""Dry run: what a run would do, how long it would take and what it would write.

Nothing is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..cost_models import Device, workload
from ..cost_models.runtimes import open_runtime
from ..cost_models.runtimes.torch import threads
from .config import RunConfig
from .data.dataset import load_data
from .pipeline import STEPS
from .run.opening import open_space
from .run.rates import measure_rates

LINE_MB = 1.5e-3  # of a scored candidate in the log and the journal
COPIES = 2  # of a delivered model's weights: ONNX and safetensors
STATE = 4  # times its weights a training keeps while it goes on: now, best, two moments


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        space: name, exact size, and parameters of the smallest and the largest candidate.
        images: in each split, and classes.
        device: what will be measured, and for how long.
        work: stage -> what it does.
        seconds: stage -> estimate.
        disk_mb: file -> estimate.
        free_mb: on the disk of the run folder.
    """

    space: Mapping[str, Any]
    images: Mapping[str, int]
    device: Mapping[str, Any]
    work: Mapping[str, str]
    seconds: Mapping[str, float]
    disk_mb: Mapping[str, float]
    free_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def plan(config: RunConfig, path: Path) -> Plan:
    """Plan a run.

    Args:
        config: of the run.
        path: where its folder would be.

    Raises:
        RunError: its images cannot be read.
        ConfigError: no such device.
        MissingRuntimeError: its runtime is not installed here.
    """
    device = Device.load(config.device.name)
    open_runtime(device)
    space = open_space(config)
    data = load_data(config.data, space.largest().architecture.input_size)
    # As a worker has: more of them wait for each other where the machine is busy.
    with threads(config.executor.threads or 1), torch.random.fork_rng(devices=[]):
        rates = measure_rates(config, space, data)
    return Plan(
        space={
            "name": space.name,
            "size": space.size,
            "smallest_params": workload(space.smallest()).params,
            "largest_params": workload(space.largest()).params,
        },
        images={
            "train": rates.train_images,
            **{name: len(data.split(name)) for name in ("search", "validation")},
            "classes": data.num_classes,
        },
        device=device.to_dict(),
        work={step.stage.value: step.about(rates) for step in STEPS},
        seconds={step.stage.value: step.seconds(rates) for step in STEPS},
        disk_mb={
            "teacher": rates.teacher_mb + rates.logits_mb,
            "supernet": rates.supernet_mb,
            "evaluations": config.search.trials * LINE_MB,
            "pareto": config.finish.finalists * (COPIES + STATE) * rates.supernet_mb,
        },
        free_mb=_free_mb(path),
    )


def plan_lines(found: Plan) -> list[str]:
    """A plan for people."""
    total, disk = sum(found.seconds.values()), sum(found.disk_mb.values())
    space, images = found.space, dict(found.images)
    classes = images.pop("classes")
    return [
        f"space   {space['name']}: {space['size']:,} candidates of {space['smallest_params']:,} to "
        f"{space['largest_params']:,} parameters",
        f"images  {', '.join(f'{n:,} {name}' for name, n in images.items())}; {classes} classes",
        f"device  {found.device['name']}: {found.device['runtime']}, {found.device['threads']} "
        f"threads, batch {found.device['batch']}",
        "",
        f"{'stage':14}  {'about':>9}  what",
        *(f"{name:14}  {found.seconds[name]:7.0f} s  {what}" for name, what in found.work.items()),
        f"{'all':14}  {total:7.0f} s  on this machine, as busy as it is now",
        "",
        f"disk    at most about {disk:,.0f} MB, of {found.free_mb:,.0f} MB that are free",
    ]


def _free_mb(path: Path) -> float:
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(above).free / 1e6
