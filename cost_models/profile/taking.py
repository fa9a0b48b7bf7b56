"""Taking a profile: a model run on this machine, and looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from ...spaces import Candidate
from ...spaces.errors import CostError
from ..device import Device, presets
from ..foreign.onnx_counting import Piece
from ..foreign.onnx_recognition import recipe_of
from ..graphs.modules import locate
from ..runtime_spec import find_runtime
from ..runtimes import open_runtime
from ..standalone.energy_meter import energy_mj, find_meter
from ..standalone.runner import CLOCKS
from ..standalone.timing import Stopwatch, stopwatch
from ..units.precision_recipes import find_recipe
from ..units.sub_block import SubBlock
from ..units.workload import workload
from .kernel_times import KernelTimes, time_kernels
from .operator_classes import CALL, classes_of
from .placement import place_kernels, placed_pieces
from .profile import Profile, ProfiledBlock, TimedKernel
from .roofline import (
    MOVED,
    STREAMS,
    MachinePeaks,
    Stream,
    bound_of,
    product,
    product_gflops,
    stream_gb_per_s,
)
from .tensors import BLOCK, EMBEDDING, memory_of, tensors_of

FLOAT = "float"


def take_profile(device: Device, candidate: Candidate, content: bytes) -> Profile:
    """Look into a model on this machine.

    Args:
        device: whose runtime runs it here, with as many images at once as the file takes.
        candidate: whose network it is.
        content: of its file, as the runtime reads it.

    Raises:
        CostError: the runtime refuses the file or does not tell how long kernels take, or the file
            is of another candidate.
        MissingRuntimeError: the runtime is not installed here.
    """
    check_profiles(device)
    blocks, model = workload(candidate).sub_blocks, onnx.load_model_from_string(content)
    images = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    device = replace(device, batch=images[0])
    pieces = placed_pieces(model, blocks)
    recipes = _recipes(pieces, len(blocks))
    times, machine = _timed(device, content, {FLOAT, *recipes})
    kernels = [kernel for kernel, _ in times.kernels]
    values = {name: at for at, piece in pieces for name in piece.values}
    places, classes = place_kernels(kernels, values), classes_of(kernels)
    listed = [
        TimedKernel(kernel.operator, kind, place, ms)
        for (kernel, ms), kind, place in zip(times.kernels, classes, places, strict=True)
    ]
    streams = {pieces[0][1].values[-1]: EMBEDDING}
    streams |= {piece.values[-1]: BLOCK for _, piece in pieces if piece.is_branch}
    return Profile(
        device=device,
        version=find_runtime(device.runtime).version,
        latency_ms=times.latency_ms,
        accounted=times.accounted,
        slowed=times.slowed,
        classes=_by_class(listed, times.call_ms),
        kernels=listed,
        blocks=[
            _block(device, *about, machine)
            for about in zip(
                list(locate(candidate))[: len(blocks)],  # heads have more places than one
                blocks,
                recipes,
                _ms(listed, len(blocks)),
                weight_bytes(model, pieces, len(blocks)),
                strict=True,
            )
        ],
        tensors=tensors_of(kernels, classes, places, streams, images),
        peak=memory_of(kernels, images),
        machine=machine,
        energy_mj=_energy(device, content),
    )


def check_profiles(device: Device) -> None:
    """Check that a device can be used here, and that its runtime tells how long kernels take.

    Raises:
        CostError: it does not.
        MissingRuntimeError: it is not installed here.
    """
    open_runtime(device)
    if not _tells(device):
        telling = [name for name in presets() if _tells(Device.load(name))]
        raise CostError(
            f"device {device.name!r}: {device.runtime} on {device.provider} does not tell how long "
            f"its kernels take; of the presets {', '.join(telling)} do"
        )


def _tells(device: Device) -> bool:
    return device.provider in find_runtime(device.runtime).kernel_times


def weight_bytes(
    model: onnx.ModelProto, pieces: Sequence[tuple[int, Piece]], blocks: int
) -> list[int]:
    """Bytes of the constants of each sub-block as the file holds them; one that several read once.

    Args:
        model: of the file.
        pieces: of its graph, placed.
        blocks: number of sub-blocks.
    """
    left = {tensor.name: _size(tensor) for tensor in model.graph.initializer}
    sizes = [0] * blocks
    for at, piece in pieces:
        sizes[at] += sum(left.pop(name, 0) for name in piece.constants)
    return sizes


def _size(tensor: onnx.TensorProto) -> int:
    """Bytes of the values of a constant, of which some have less than a byte."""
    return len(tensor.raw_data) or onnx.numpy_helper.to_array(tensor).nbytes


def _recipes(pieces: Sequence[tuple[int, Piece]], blocks: int) -> list[str]:
    """Recipe whose kernels each sub-block has."""
    recipes = [FLOAT] * blocks
    for at, piece in pieces:
        if (recipe := recipe_of(piece)) != FLOAT:
            recipes[at] = recipe
    return recipes


def _timed(device: Device, content: bytes, recipes: set[str]) -> tuple[KernelTimes, MachinePeaks]:
    """Times of a model, and the peaks of the machine meanwhile."""
    runtime, clock = open_runtime(device), CLOCKS[device.clock]
    watches: dict[str, Stopwatch] = {}
    for recipe in recipes:
        compiled = runtime.compile(product(find_recipe(recipe).name))
        watches[recipe] = stopwatch(compiled, _random(compiled.input_shape), clock)
    for moved in STREAMS:
        watches[str(moved)] = stopwatch(Stream(moved, device.threads), _random([1]), clock)
    times = time_kernels(device, content, watches)
    gflops = {recipe: product_gflops(times.beside[recipe]) for recipe in recipes}
    streams = {moved: stream_gb_per_s(moved, times.beside[str(moved)]) for moved in STREAMS}
    return times, MachinePeaks(gflops, streams)


def _by_class(kernels: Sequence[TimedKernel], call_ms: float) -> Mapping[str, float]:
    ms = {CALL: call_ms}
    for kernel in kernels:
        ms[kernel.kind] = ms.get(kernel.kind, 0.0) + kernel.ms
    return dict(sorted(ms.items(), key=lambda item: -item[1]))


def _ms(kernels: Sequence[TimedKernel], blocks: int) -> list[float]:
    ms = [0.0] * blocks
    for kernel in kernels:
        ms[kernel.place] += kernel.ms
    return ms


def _block(
    device: Device,
    name: str,
    block: SubBlock,
    recipe: str,
    ms: float,
    stored: int,
    machine: MachinePeaks,
) -> ProfiledBlock:
    ops = block.ops()
    moved = MOVED * device.batch * sum(op.reads + op.writes for op in ops) + stored
    return ProfiledBlock(
        name=name,
        block=block,
        recipe=recipe,
        ms=ms,
        weight_bytes=stored,
        moved_bytes=moved,
        peak_gflops=machine.gflops[recipe],
        peak_gb_per_s=machine.stream(moved),
        bound=bound_of(ops, stored, recipe, device.batch, machine).name(ms),
        batch=device.batch,
    )


def _energy(device: Device, content: bytes) -> float | None:
    meter, _ = find_meter(device.chip)
    if meter is None:
        return None
    compiled = open_runtime(device).compile(content)
    x = _random(compiled.input_shape)
    return energy_mj(lambda: compiled.run(x), meter) or None


def _random(shape: Sequence[int]) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
