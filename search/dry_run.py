"""Plan: what a run would do, how long it would take and what it would write, before it starts.

Nothing is written. One step of each training and a few scores are timed on this machine, with
untrained weights; what a step costs does not depend on what was learned.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..cost_models import Device
from ..cost_models.runtimes import open_runtime
from ..cost_models.runtimes.torch import threads
from ..cost_models.units.workload import workload
from ..spaces import SearchSpace
from .config import RunConfig
from .data.dataset import Data, load_data
from .delivery.shortlist import SHORT
from .run.assets import VIEWS
from .run.opening import open_space
from .scoring.inherited import Evaluator
from .training.optimizer import torch_device
from .training.sandwich import ALONE, Draw, Sandwich
from .training.supernet import from_scratch
from .training.teacher import Lessons, batches_in, open_teacher, predict

SCORED = 4  # candidates whose scoring is timed
PROPOSE_S = 0.01  # of one trial beside its scoring
FEW = 64  # images on which a teacher that is not trained is timed
VERIFY_S = 3.0  # of one model: loading, timing against the others, memory in fresh processes
SHORT_S = 0.3  # of one network of the shortlist: exported, and timed with random weights
REFERENCE_S = 8.0
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
    train = len(data.train_labels)
    images = {
        "train": train,
        **{name: len(data.split(name)) for name in ("search", "validation")},
        "classes": data.num_classes,
    }
    steps = {
        name: section.epochs * batches_in(train, section.batch_size)
        for name, section in (
            ("teacher", config.teacher),
            ("supernet", config.supernet),
            ("finishing", config.finish),
        )
    }
    # As a worker has: more of them wait for each other where the machine is busy.
    with threads(config.executor.threads or 1), torch.random.fork_rng(devices=[]):
        seconds, weights_mb, teacher_mb = _timed(config, space, data, steps)
    search, finalists, short = config.search, config.finish.finalists, config.forecast
    teacher = f"{steps['teacher']:,} steps of {config.teacher.batch_size} images"
    measured = f"sub-blocks and whole networks on {device.name}"
    return Plan(
        space={
            "name": space.name,
            "size": space.size,
            "smallest_params": workload(space.smallest()).params,
            "largest_params": workload(space.largest()).params,
        },
        images=images,
        device=device.to_dict(),
        work={
            "calibration": config.device.cost_model or measured,
            "teacher": config.teacher.model or teacher,
            "supernet": f"{steps['supernet']:,} steps of {config.supernet.batch_size} images",
            "forecast": f"{short.candidates} short trainings of {short.steps} steps"
            if not config.supernet.pretrained
            else "none beside pretrained weights",
            "search": f"at most {search.trials:,} trials by {search.sampler}",
            "shortlist": f"at most {SHORT * finalists} networks of the front on {device.runtime}",
            "finishing": f"{finalists} models, {steps['finishing']:,} steps each",
            "verification": f"{finalists} artifacts on {device.runtime}",
            "reference": "the largest network of the space, in PyTorch",
        },
        seconds=seconds,
        disk_mb={
            "teacher": teacher_mb + VIEWS * train * data.num_classes * 4 / 1e6,
            "supernet": weights_mb,
            "evaluations": search.trials * LINE_MB,
            "pareto": finalists * (COPIES + STATE) * weights_mb,
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


def _timed(
    config: RunConfig, space: SearchSpace, data: Data, steps: Mapping[str, int]
) -> tuple[dict[str, float], float, float]:
    """Stage -> seconds, and the weights of the supernet and of the teacher in MB."""
    supernet = from_scratch(space, config.search.seed).to(torch_device())
    logits = torch.zeros(1, len(data.train_labels), data.num_classes)
    lessons = Lessons.of(data, logits)
    draw = Draw(space, config.supernet, 1, config.search.seed)
    sandwich = Sandwich(supernet, lessons, config.supernet, ALONE)
    lesson = next(lessons.batches(config.supernet.batch_size, 1, config.search.seed))
    candidates = [candidate for _, candidate in draw(1)]  # after the largest was alone
    network_s = _seconds(lambda: sandwich.step(candidates, lesson)) / len(candidates)
    alone = config.supernet.alone
    step_s = network_s * (alone + (1 - alone) * len(candidates))
    image_s = network_s / config.supernet.batch_size
    finish_s, short_s = (image_s * c.batch_size for c in (config.finish, config.proxy))
    short = config.forecast
    examples = config.examples
    evaluator = Evaluator(supernet, data.split("search"), data.split("train"))
    drawn = space.sample(SCORED, config.search.seed)
    inherited_s = 0.0 if examples else _seconds(lambda: [evaluator(c) for c in drawn]) / SCORED
    score_s = PROPOSE_S + inherited_s / config.executor.workers
    teacher = open_teacher(data, config.teacher).to(torch_device())
    teacher_s, answer_s = _teacher_seconds(config, data, teacher)
    finalists = config.finish.finalists
    seconds = {
        "calibration": 0.0 if config.device.cost_model else config.device.calibrate_s,
        "teacher": teacher_s * steps["teacher"] + VIEWS * len(data.train_labels) * answer_s,
        "supernet": step_s * steps["supernet"],
        "forecast": short_s * short.steps * examples / config.executor.workers,
        "search": score_s * config.search.trials,
        "shortlist": SHORT_S * SHORT * finalists,
        "finishing": finish_s
        * steps["finishing"]
        * finalists
        / min(config.executor.workers, finalists),
        "verification": VERIFY_S * finalists,
        "reference": REFERENCE_S,
    }
    return seconds, _weights_mb(supernet.parameters()), _weights_mb(teacher.parameters())


def _weights_mb(parameters: Iterable[nn.Parameter]) -> float:
    return sum(4 * p.numel() for p in parameters) / 1e6


def _teacher_seconds(config: RunConfig, data: Data, teacher: nn.Module) -> tuple[float, float]:
    """Seconds of a training step of the teacher, and of its answer to one image."""
    device = torch_device()
    images = data.split("train").images[: config.teacher.batch_size].to(device)
    labels = torch.zeros(len(images), dtype=torch.long, device=device)

    def step() -> None:
        F.cross_entropy(teacher(images), labels).backward()

    few = images[:FEW]
    answer_s = _seconds(lambda: predict(teacher.eval(), few)) / len(few)
    return 0.0 if config.teacher.model else _seconds(step), answer_s


def _seconds(work: Callable[[], Any]) -> float:
    """Of the second of two runs; the first one pays for what is set up once."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _free_mb(path: Path) -> float:
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(above).free / 1e6
