"""Five families at equal latency, trained alike: ViT, Mixer, hybrid, linear and window attention.

Each family has six blocks on 8x8 tokens (the hybrid two of MBConv on 16x16 before four of
attention), and the width at which ONNX Runtime takes as long for it as for the ViT, found by timing
the two in turn. All are trained by one recipe on labels alone, by the product's own optimizer and
views, and are right on test images that nothing else looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import count
from statistics import mean, stdev
from typing import Any

import numpy as np

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.standalone.runner import CLOCKS
from vitpareto.cost_models.standalone.timing import NETWORK_HEAT_MS, Timing, measure_session
from vitpareto.search.config import DataConfig
from vitpareto.search.config.trainings import TrainConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.loading import load_data
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.forward import predict
from vitpareto.search.training.optimizer import Optimizer
from vitpareto.search.training.parts import Parts
from vitpareto.search.training.supernet import fresh
from vitpareto.search.training.teacher import shuffled, teach
from vitpareto.spaces import Architecture, Block, Candidate, Stage
from vitpareto.spaces.networks import Network

DEVICE = Device.load("cpu-1t")
SIZE, SIDE, DEPTH, HEADS, RATIO = 32, 8, 6, 4, 2
VIT_WIDTH, STEP, WIDTHS = 96, 4, (5, 96)  # a width is a multiple of STEP, between these
ROUNDS = 15
RECIPE = TrainConfig(batch_size=64, lr=1e-3)

Make = Callable[[int, Data], Architecture]


def compare(folder: str, seeds: int, steps: int) -> None:
    """Print the table as Markdown.

    Args:
        folder: of the images, in a folder a class; empty for the digits.
        seeds: trainings of each family.
        steps: of a training.
    """
    data = load_data(DataConfig(root=folder) if folder else DataConfig(), SIZE)
    chosen = {"ViT": _candidate(FAMILIES["ViT"](VIT_WIDTH, data))}
    for name, make in FAMILIES.items():
        if name not in chosen:
            chosen[name] = as_fast_as(chosen["ViT"], make, data)
            print(f"{name}: width {_width(chosen[name])}", flush=True)
    timings = timed(list(chosen.values()))
    test = data.split("test")
    print(
        f"{data.name}: {len(data.train_labels)} train images, {steps} steps of "
        f"{RECIPE.batch_size}, {len(test)} test images, {seeds} seeds; latency in ONNX Runtime on "
        f"{DEVICE.name}, timed in turn, {ROUNDS} rounds\n"
    )
    print("| family | width | parameters | MACs | latency | of the ViT's | accuracy (seeds) |")
    print("|---|---|---|---|---|---|---|")
    for (name, candidate), timing in zip(chosen.items(), timings, strict=True):
        shares = list[float]()
        for seed in range(seeds):
            network = trained(candidate, data, steps, seed)
            logits = predict(candidate, network, test)
            shares.append(100 * accuracy(logits, test.labels)["accuracy"])
        load, spread = workload(candidate), stdev(shares) if seeds > 1 else 0.0
        each = ", ".join(f"{share:.1f}" for share in shares)
        print(
            f"| {name} | {_width(candidate)} | {load.params / 1e6:.2f} M | {load.macs / 1e6:.1f} M "
            f"| {timing.median_ms:.3f} ms | {timing.median_ms / timings[0].median_ms:.2f} "
            f"| {mean(shares):.1f}% +- {spread:.1f} ({each}) |",
            flush=True,
        )


def _plain(mixer: str, **numbers: Any) -> Make:
    """A family of one stage whose blocks have one mixer."""

    def make(width: int, data: Data) -> Architecture:
        shift = [{}, {"shift": True} if mixer == "window" else {}]
        blocks = [_block(mixer, width, **numbers, **shift[j % 2]) for j in range(DEPTH)]
        return _network(data, SIZE // SIDE, Stage(width, tuple(blocks)))

    return make


def _hybrid(width: int, data: Data) -> Architecture:
    half = width // 2
    convolution = _block("mbconv", half, kernel_size=3)
    attention = _block("softmax", width)
    stages = Stage(half, (convolution,) * 2), Stage(width, (attention,) * (DEPTH - 2))
    return _network(data, SIZE // SIDE // 2, *stages)


def _block(mixer: str, width: int, **numbers: Any) -> Block:
    if mixer == "token_mlp":  # half as many hidden units as channels, as in MLP-Mixer
        numbers |= {"token_hidden": width // 2}
    elif mixer != "mbconv":
        numbers |= {"num_heads": HEADS, "head_dim": width // HEADS}
    return Block(mixer, mlp_hidden=RATIO * width, **numbers)


def _network(data: Data, patch: int, *stages: Stage) -> Architecture:
    return Architecture(
        stages,
        input_size=SIZE,
        in_chans=data.in_chans,
        num_classes=data.num_classes,
        patch_size=patch,
        global_pool="avg",
    )


FAMILIES: dict[str, Make] = {
    "ViT": _plain("softmax"),
    "Mixer": _plain("token_mlp"),
    "hybrid": _hybrid,
    "linear": _plain("linear", kernel_size=3),
    "window": _plain("window", window_size=4),
}


def as_fast_as(goal: Candidate, make: Make, data: Data) -> Candidate:
    """The member of a family whose latency is nearest to that of another network."""
    tried: dict[int, float] = {}
    low, high = WIDTHS
    while low < high:
        middle = (low + high) // 2
        first, second = timed([goal, _candidate(make(STEP * middle, data))])
        tried[middle] = math.log(second.median_ms / first.median_ms)
        low, high = (middle + 1, high) if tried[middle] < 0 else (low, middle)
    best = min(tried, key=lambda width: abs(tried[width]))
    return _candidate(make(STEP * best, data))


def timed(candidates: list[Candidate]) -> list[Timing]:
    """Latencies, timed in turn."""
    compiled = [_compiled(candidate) for candidate in candidates]
    inputs = [np.zeros(graph.input_shape, np.float32) for graph in compiled]
    clock = CLOCKS[DEVICE.clock]
    return measure_session(compiled, inputs, ROUNDS, clock=clock, heat_ms=NETWORK_HEAT_MS).timings


@cache
def _bench() -> Bench:
    return Bench(DEVICE)


@cache
def _compiled(candidate: Candidate) -> Any:
    graph = _bench().network(candidate, DEVICE.recipes)
    return open_runtime(DEVICE).compile(graph.model)


def trained(candidate: Candidate, data: Data, steps: int, seed: int) -> Network:
    """A network trained alone, on labels, as teachers are."""
    network = fresh(candidate, seed).train()
    optimizer, parts = Optimizer(network.named_parameters(), RECIPE, steps), Parts(candidate.key)
    for epoch in count():
        order = shuffled(data.train_labels, RECIPE.batch_size, seed, epoch)
        for index, images in zip(order, data.views().batches(epoch, order), strict=True):
            teach(network, optimizer, parts, images, data.train_labels[index])
            if optimizer.done >= steps:
                return network.eval()
    raise AssertionError


def _candidate(architecture: Architecture) -> Candidate:
    return Candidate.uncompressed(architecture)


def _width(candidate: Candidate) -> int:
    return candidate.architecture.stages[-1].width
