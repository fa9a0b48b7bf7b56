"""Dry run: stages, time and disk space of a run, without writing anything."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..cost_models import CostModel, workload
from ..cost_models.measure.runnable import left_out
from ..cost_models.runtimes.torch import threads
from ..spaces import Candidate, SearchSpace
from .config import RunConfig
from .console import say
from .data.loading import blank_data, catalog_of, sample_data
from .data.overview import overview, overview_lines
from .loop.nearest_feasible import misses, nearest
from .pareto.by_device import AT, at
from .pareto.objectives import METRICS
from .pipeline import steps_of
from .run.devices import given_model
from .run.inheriting import RECIPE
from .run.lengths import KEYS, open_keys, with_workers
from .run.opening import check_forecast, check_ready_models, check_setup, open_space
from .run.planning import check_budget
from .run.planning import planned as planned_config
from .run.rates import main_threads, measure_rates
from .run.stages import Stage
from .run.targeting import targeted_at_all
from .scoring.predicted_costs import CostPredictor, TogetherPredictor
from .start.fitted import check_start, norm_for, open_start
from .store.run_folder import RunFolder, RunPaths
from .training.ready_teacher import check_teacher
from .training.teacher import open_teacher

LONGEST = 2  # stages of which it is said how they become shorter
LOWER: Mapping[Stage, str] = {
    Stage.DATA: "data.limit",
    **{stage: keys[-1] for stage, keys in KEYS.items() if stage is not Stage.SHORTLIST},
}  # keys
COUNTED = ("macs", "params", "size_mb")  # known of a candidate without measuring
LINE_MB = 1.5e-3  # of one scored candidate in the log and the journal
COPIES = 2  # of a delivered model's weights: ONNX and safetensors
STATE = 4  # copies of the weights in a checkpoint: current, best, two moments


@dataclass(frozen=True)
class Plan:
    """Description of a run before it starts.

    Attributes:
        folder: of the run.
        budget: its text and the keys that it chooses; empty without one.
        space: name, what a preset at another size changes, what it goes without on the device,
            exact size, and parameters of the smallest and the largest candidate.
        images: in each split, and classes.
        data: what is read, as `data show` has it.
        device: that is measured; of several a list.
        work: stage -> description.
        seconds: stage -> estimate.
        disk_mb: file -> estimate.
        free_mb: on the disk of the run folder.
        teacher_accuracy: of a ready teacher, on validation images.
        start_accuracy: of a start that knows the classes, likewise, before it is adapted.
        unreachable: limits that hardly any candidate can keep, and how near the nearest comes.
    """

    folder: str
    budget: Mapping[str, Any]
    space: Mapping[str, Any]
    images: Mapping[str, int]
    data: Mapping[str, Any]
    device: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    work: Mapping[str, str]
    seconds: Mapping[str, float]
    disk_mb: Mapping[str, float]
    free_mb: float
    teacher_accuracy: float | None = None
    start_accuracy: float | None = None
    unreachable: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def plan(config: RunConfig, path: Path) -> Plan:
    """Plan a run.

    Args:
        config: of the run.
        path: of its folder, which is not made.

    Raises:
        VitParetoError: what `open_run` would find.
    """
    if not RunPaths(path).begun:
        RunFolder.check_free(path)
    devices = check_setup(config)
    begun = RunPaths(path) if RunPaths(path).begun else None
    space, refusals = targeted_at_all(config, open_space(config, RunPaths(path)), devices, begun)
    check_forecast(config, space)
    check_ready_models(config, space)
    start, size = time.perf_counter(), space.largest().architecture.input_size
    opened = open_start(config.start) if config.start.model else None
    catalog = catalog_of(config.data, size, norm=norm_for(opened, space))
    reading_s = time.perf_counter() - start
    judged, started = None, None
    few = None
    if config.start.model or config.teacher.model:
        few = sample_data(config.data, size, catalog)
    if few and opened:
        started = check_start(opened, config.start, space, few)
        said = started or "knows other classes, so that it gets a new head"
        say(f"start: {config.start.model} {said}")
    if few and config.teacher.model:
        judged = check_teacher(open_teacher(few, config.teacher), few)
        say(f"teacher: {config.teacher.model} {judged}")
    data, keys = blank_data(catalog), open_keys(config)
    asked = "budget" in config.model_fields_set
    before = config = with_workers(config)
    begun = time.perf_counter()
    with threads(main_threads(config)), torch.random.fork_rng(devices=[]):
        rates = measure_rates(config, space, data, reading_s)
    if config.budget_s:
        spent = reading_s + time.perf_counter() - begun
        check_budget(rates, keys, spent, asked)
        config = planned_config(rates, keys, spent - reading_s)
        rates = replace(rates, config=config)
    budget = {"budget": config.budget, **decided(config, before, keys)} if config.budget_s else {}
    return Plan(
        folder=str(path),
        budget=budget,
        space={
            "name": space.name,
            "description": space.description,
            "left_out": "; ".join(filter(None, map(left_out, devices, refusals))),
            "size": space.size,
            "smallest_params": workload(space.smallest()).params,
            "largest_params": workload(space.largest()).params,
        },
        images={
            "train": rates.train_images,
            **{name: data.count(name) for name in ("search", "validation", "test")},
            "classes": data.num_classes,
        },
        data=overview(catalog),
        device=devices[0].to_dict() if len(devices) == 1 else [d.to_dict() for d in devices],
        work={step.stage.value: step.about(rates) for step in steps_of(config)},
        seconds={step.stage.value: step.seconds(rates) for step in steps_of(config)},
        disk_mb={
            "pixels": rates.images * catalog.look.channels * catalog.look.size**2 / 1e6,
            "teacher": rates.teacher_mb + rates.logits_mb,
            "supernet": rates.supernet_mb if config.has_supernet else 0.0,
            "evaluations": config.search.trials * LINE_MB,
            "pareto": config.finish.finalists * (COPIES * len(devices) + STATE) * rates.supernet_mb,
        },
        free_mb=_free_mb(path),
        teacher_accuracy=judged.accuracy if judged else None,
        start_accuracy=started.accuracy if started else None,
        unreachable=unreachable(config, space, RunPaths(path)),
    )


def plan_lines(planned: Plan) -> list[str]:
    """Lines that print a plan."""
    total, disk = sum(planned.seconds.values()), sum(planned.disk_mb.values())
    space, device = planned.space, planned.device
    devices = [device] if isinstance(device, Mapping) else device
    return [
        *overview_lines(planned.data),
        "",
        f"space   {space['name']}: {space['size']:,} candidates of {space['smallest_params']:,} to "
        f"{space['largest_params']:,} parameters",
        *([f"        {space['description']}"] if space["description"] else []),
        *([f"        {space['left_out'].replace('space: ', '')}"] if space["left_out"] else []),
        *(
            f"device  {d['name']}: {d['runtime']}, {d['threads']} threads, batch {d['batch']}"
            for d in devices
        ),
        "",
        f"{'stage':14}  {'about':>9}  what",
        *(
            f"{name:14}  {planned.seconds[name]:7.0f} s  {what}"
            for name, what in planned.work.items()
        ),
        f"{'all':14}  {total:7.0f} s  on this machine, as busy as it is now",
        *_advice(planned),
        "",
        *_unreachable(planned),
        f"images  {', '.join(f'{name} {count:,}' for name, count in planned.images.items())}",
        f"folder  {planned.folder}",
        f"disk    at most about {disk:,.0f} MB, of {planned.free_mb:,.0f} MB that are free",
    ]


def _unreachable(planned: Plan) -> list[str]:
    """A warning, if there is one."""
    if not planned.unreachable:
        return []
    return [
        f"limits  hardly any candidate can keep them: the nearest has {planned.unreachable};",
        "        it would be delivered all the same, and marked",
        "",
    ]


def unreachable(config: RunConfig, space: SearchSpace, paths: RunPaths) -> str:
    """Limits that no candidate is likely to keep, as far as costs are known without measuring.

    Without a cost model only counts are, and the bytes of the weights, which no file is below.
    """
    kept = {
        name: given_model(device) or paths.of(name).cost_model
        for name, device in config.by_device.items()
    }
    if all(path.is_file() for path in kept.values()):
        models = {name: CostPredictor(CostModel.load(path)) for name, path in kept.items()}
        price, known = TogetherPredictor(models).all, METRICS
    else:
        price, known = partial(_counted, [*kept]), COUNTED
    limited = [o for o in config.search.resolve() if o.limit is not None and not o.maximize]
    limited = [o for o in limited if o.name.partition(AT)[0] in known]
    _, costs = nearest(space, limited, price, config.search.seed)
    return misses(costs, limited)


def _counted(devices: Sequence[str], candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    return [
        {"macs": w.macs, "params": w.params}
        | {at("size_mb", device): w.weight_bytes / 1e6 for device in devices}
        for w in map(workload, candidates)
    ]


def decided(config: RunConfig, before: RunConfig, keys: Sequence[str]) -> dict[str, Any]:
    """Values of the lengths that a budget chooses, and of what else it changes."""
    values = {key: config.value_of(key) for key in keys}
    return {k: v for k, v in values.items() if k not in RECIPE or v != before.value_of(k)}


def _advice(planned: Plan) -> list[str]:
    """Lines on what a budget chooses, or else on how the longest stages become shorter."""
    if planned.budget:
        chosen = [f"{key} {value}" for key, value in planned.budget.items() if key != "budget"]
        lines = [f"        within the budget of {planned.budget['budget']}, each decided anew when"]
        return [*lines, f"        its stage begins: {', '.join(chosen) or 'every length is given'}"]
    slow = sorted(planned.seconds, key=lambda name: -planned.seconds[name])
    keys = [LOWER[Stage(name)] for name in slow if Stage(name) in LOWER][:LONGEST]
    return [
        f"        the longest stages become shorter with a lower {' or '.join(keys)},",
        "        all of them with --budget, such as --budget 20min",
    ]


def _free_mb(path: Path) -> float:
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(above).free / 1e6
