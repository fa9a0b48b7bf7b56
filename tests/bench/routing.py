"""Routed against dropped tokens at equal cost, and learned against random routes.

`python -m tests.bench routing` trains small networks on the digits, each as often as there are
--seeds, and prints their accuracy on images they have not seen; some fifteen minutes of one core,
less with --parts. With --time it prints by how much sub-blocks of 196 tokens, of 192 and 384
channels, are faster for a share of them, in ONNX Runtime.
"""

import argparse
from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.graphs.modules import build
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.standalone.runner import CLOCKS
from vitpareto.cost_models.standalone.timing import measure_session
from vitpareto.spaces import Architecture, Block, Candidate, Stage
from vitpareto.spaces.networks import Network

from ._row import HEADER, row

SEEDS, EPOCHS, BATCH, RATE = 5, 30, 64, 3e-3
DEPTH, WIDTH, HEADS, RATIO = 3, 32, 2, 4
CAPACITY = 0.5
DROPPED_AFTER = 0  # block after which tokens are dropped
# What is routed of each block, by its capacities.
PARTS = {
    "attention": ("mixer_capacity",),
    "MLPs": ("mlp_capacity",),
    "both": ("mixer_capacity", "mlp_capacity"),
}
DEVICE, ROUNDS = Device.load("cpu-1t"), 25
SHARES, WIDTHS, PATCHES = (1.0, 0.5, 0.25), (192, 384), 14  # of what is timed


def main(arguments: Sequence[str] = ()) -> None:
    asked = _options(arguments)
    torch.set_num_threads(1)
    print(HEADER)
    if asked.time:
        for name, figure in speeds(asked.rounds):
            row(name, figure, "")
        return
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16 - 0.5
    labels = torch.tensor(digits.target)
    split = len(images) * 3 // 4
    train, test = (images[:split], labels[:split]), (images[split:], labels[split:])
    for name, architecture in arms(images, 10, 2, asked.parts):
        found = [accuracy(architecture, train, test, seed) for seed in range(asked.seeds)]
        report(name, architecture, found)


def _options(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser("python -m tests.bench routing", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each network")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS, metavar="PART")
    parser.add_argument("--time", action="store_true", help="latencies instead")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="with --time: samples of each")
    return parser.parse_args(arguments)


def report(name: str, architecture: Architecture, found: Sequence[float]) -> None:
    """One row of the table."""
    spread = stdev(found) if len(found) > 1 else 0.0
    macs = f"{macs_of(architecture) / 1e6:.2f} M MACs"
    row(f"{name}, {macs}", f"{100 * mean(found):.1f} +- {100 * spread:.1f}%", "")


def macs_of(architecture: Architecture) -> int:
    return workload(Candidate.uncompressed(architecture)).macs


def arms(
    images: Tensor, classes: int, patch_size: int, parts: Sequence[str]
) -> Iterator[tuple[str, Architecture]]:
    """A whole network; each part routed in two ways, and tokens dropped for as much work."""
    fields = {
        **{"input_size": images.shape[-1], "in_chans": images.shape[1], "num_classes": classes},
        **{"patch_size": patch_size, "global_pool": "token"},
    }
    heads = {"num_heads": HEADS, "head_dim": WIDTH // HEADS, "mlp_hidden": RATIO * WIDTH}

    def made(*blocks: Block, **more: str) -> Architecture:
        return Architecture((Stage(WIDTH, blocks),), **fields, **more)

    def dropping(keep: float) -> Architecture:
        blocks = [Block(**heads)] * DEPTH
        blocks[DROPPED_AFTER] = Block(**heads, token_keep=keep)
        return made(*blocks)

    yield "all tokens", made(*[Block(**heads)] * DEPTH)
    for part in parts:
        routed = [Block(**heads, **dict.fromkeys(PARTS[part], CAPACITY))] * DEPTH
        for how in ("learned", "random"):
            yield f"{part} for {CAPACITY:.0%}, {how}", made(*routed, token_routing=how)
        goal = macs_of(made(*routed))
        keeps = [share / 100 for share in range(10, 100)]
        nearest = min(keeps, key=lambda keep: abs(macs_of(dropping(keep)) - goal))
        yield f"{1 - nearest:.0%} dropped after block {DROPPED_AFTER}", dropping(nearest)


def speeds(rounds: int) -> Iterator[tuple[str, str]]:
    """Share of the time of all tokens, of attention and MLPs for some; all timed in turn."""
    made: dict[tuple[str, int, float], Any] = {}
    inputs: list[Any] = []
    for width in WIDTHS:
        for share in SHARES:
            capacities = {"mixer_capacity": share, "mlp_capacity": share}
            block = Block(num_heads=width // 64, head_dim=64, mlp_hidden=4 * width, **capacities)
            candidate = Candidate.uncompressed(Architecture((Stage(width, (block,)),)))
            for unit in workload(candidate).sub_blocks[1:3]:
                module, shape = build(unit)
                graph = to_onnx(module, shape)
                made[unit.kind, width, share] = open_runtime(DEVICE).compile(graph)
                inputs.append(np.random.default_rng(0).standard_normal(shape, np.float32))
    clock = CLOCKS[DEVICE.clock]
    session = measure_session(list(made.values()), inputs, rounds, clock=clock)
    samples = dict(zip(made, (np.array(t.samples_ms) for t in session.timings), strict=True))
    for (kind, width, share), ms in samples.items():
        ratio = np.median(ms / samples[kind, width, 1.0])  # within the same round
        yield f"{kind}, {width} channels, {share:.0%} of the tokens: of its time", f"{ratio:.2f}"


def accuracy(
    architecture: Architecture, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int
) -> float:
    """Share of test images that a network is right about which was trained alone."""
    torch.manual_seed(seed)
    network, (images, labels) = Network(architecture), train
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images))[: steps // EPOCHS * BATCH].split(BATCH):
            loss = F.cross_entropy(network(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in test[0].split(256)])
    return (answers == test[1]).float().mean().item()
