"""Capability: the kernels that a device executes at each precision, and their speedup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from ...spaces import Block, Place, Policy
from ...spaces.errors import CostError, MissingRuntimeError
from ...spaces.mixers import MIXERS, find
from ..device import Device, presets
from ..runtime_spec import find_runtime
from ..standalone.energy_meter import find_meter
from ..units.precision_recipes import kernel_recipe
from ..units.sub_block import SubBlock
from ..units.unit import Unit


def examples() -> dict[str, SubBlock]:
    """A sub-block of each kind, of the size that DeiT-Tiny or a small hybrid has."""

    def at(block: Block) -> Place:
        if find(block.mixer).layout == "grid":
            return Place(block, 64, (28, 28), 0, 784, 784)
        return Place(block, 192, (14, 14), 0, 196, 196)

    def unit(kind: str, block: Block, variant: str, **more: Any) -> SubBlock:
        norm = "batch" if find(block.mixer).layout == "grid" else "layer"
        return SubBlock(kind, at(block), Policy(), norm, variant, **more)

    mixers = {name: find(name) for name in MIXERS}
    return {
        "stem patch": unit("stem", Block(), "patch", inputs=3, patch_size=16, flags=("pos",)),
        **{n: unit("mixer", mixer.example, n) for n, mixer in mixers.items() if mixer.has_weights},
        "mlp": unit("mlp", Block(mlp_hidden=768), "mlp"),
        "head": unit("head", Block(), "avg", outputs=1000),
    }


@dataclass(frozen=True)
class Capability:
    """One precision of one kind of sub-block on one device.

    Attributes:
        kind: of the sub-block.
        recipe: how its weights are stored and computed.
        latency_ms: measured.
        speedup: float32's latency over this one's, measured in the same session.
        kernels: how often each kind of kernel is executed.
        size_ratio: bytes of its weights over those in float32.
    """

    kind: str
    recipe: str
    latency_ms: float
    speedup: float
    kernels: dict[str, int]
    size_ratio: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def devices() -> list[dict[str, Any]]:
    """Device presets, with whether each can be used here and what counts its energy."""
    from ..runtimes import available

    rows: list[dict[str, Any]] = []
    for name in presets():
        device = Device.load(name)
        runtime = find_runtime(device.runtime)
        missing, (meter, no_meter) = available(device), find_meter(device.chip)
        rows.append(
            {
                "name": name,
                "runtime": device.runtime,
                "version": runtime.version,
                "provider": device.provider,
                "threads": device.threads,
                "available": not missing,
                "measurable": not missing and runtime.from_graphs,
                "reason": missing,
                "meter": meter.source if meter else "",
                "meter_reason": no_meter,
            }
        )
    return rows


def refused_blocks(device: Device) -> dict[str, str]:
    """Kind of sub-block -> why a device cannot run it, of those of `examples` that it cannot.

    Args:
        device: which must be usable here.

    Raises:
        MissingRuntimeError: the device's runtime is not installed here.
    """
    from .runnable import PLAIN, refused

    told = {kind: refused(device, block, PLAIN) for kind, block in examples().items()}
    return {kind: reason for kind, reason in told.items() if reason}


def capabilities(
    device: Device,
    kinds: Sequence[str] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> list[Capability]:
    """Measure every recipe of a device on every kind of sub-block.

    Of recipes that only store weights in other ways, and run the same kernels, one is timed.

    Args:
        device: which must be usable here.
        kinds: names of `examples`; all by default.
        progress: called with the share that is done, and what is being done.

    Raises:
        MissingRuntimeError: the device's runtime is not installed here.
    """
    from ..runtimes import open_runtime
    from .bench import Bench, TimedGraph

    bench, runtime = Bench(device), open_runtime(device)
    if not bench.writes_files:
        raise MissingRuntimeError(
            f"device {device.name!r}: only runtimes that load files have recipes to compare"
        )
    rows: list[Capability] = []
    chosen = {k: b for k, b in examples().items() if kinds is None or k in kinds}
    for done, (kind, block) in enumerate(chosen.items()):
        if progress:
            progress(done / len(chosen), kind)
        units = [Unit(block, recipe) for recipe in dict.fromkeys(("float", *device.recipes))]
        graphs: dict[Unit, TimedGraph] = {}
        kernels: dict[Unit, dict[str, int]] = {}
        for unit in units:
            with suppress(CostError):  # the runtime cannot hold it
                graph = bench.unit(unit)
                kernels[unit] = runtime.compile(graph.model).kernels()
                graphs[unit] = graph
        files: dict[bytes, Unit] = {}  # convolutions have no blocks, whatever their size
        same = {
            unit: files.setdefault(graph.model, _runs_as(unit, kernels, device.runtime))
            for unit, graph in graphs.items()
        }
        timed = bench.time([graphs[unit] for unit in dict.fromkeys(same.values())])
        level = {row.key: row.median_ms for row in timed}
        if units[0].key not in level:
            continue  # `refused_blocks` says why
        base = level[units[0].key]
        for unit, graph in graphs.items():
            if (ms := level.get(same[unit].key)) is None:
                continue  # the runtime has no such kernel
            rows.append(
                Capability(
                    *(kind, unit.recipe, ms, base / ms),
                    {name: count // graph.copies for name, count in kernels[unit].items()},
                    unit.weight_bytes / units[0].weight_bytes,
                )
            )
    return rows


def _runs_as(unit: Unit, kernels: Mapping[Unit, dict[str, int]], runtime: str) -> Unit:
    """The unit whose kernels a unit runs; itself where the runtime does not do so here."""
    other = unit.run_as(kernel_recipe(unit.recipe, runtime))
    return other if kernels.get(other) == kernels[unit] else unit
