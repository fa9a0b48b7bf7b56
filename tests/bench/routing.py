"""Routed against dropped tokens at equal cost, and learned against random routes.

`python -m tests.bench routing` trains small networks on the digits, each as often as there are
seeds, and prints their accuracy on images they have not seen; about five minutes of one core.
"""

from collections.abc import Sequence
from statistics import mean, stdev

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from vitpareto.cost_models import workload
from vitpareto.spaces import Architecture, Block, Candidate, Stage
from vitpareto.spaces.networks import Network

from ._row import HEADER, row

SEEDS, EPOCHS, BATCH, RATE = 5, 30, 64, 3e-3
DEPTH, WIDTH, HEADS, RATIO = 3, 32, 2, 4
CAPACITY = 0.5
DROPPED_AFTER = 0  # block after which tokens are dropped


def main() -> None:
    torch.set_num_threads(1)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16 - 0.5
    labels = torch.tensor(digits.target)
    split = len(images) * 3 // 4
    train, test = (images[:split], labels[:split]), (images[split:], labels[split:])
    print(HEADER)
    for name, architecture in arms(images, 10, patch_size=2).items():
        report(name, architecture, [accuracy(architecture, train, test, s) for s in range(SEEDS)])


def report(name: str, architecture: Architecture, found: Sequence[float]) -> None:
    """One row of the table."""
    macs = workload(Candidate.uncompressed(architecture)).macs
    spread = stdev(found) if len(found) > 1 else 0.0
    row(f"{name}, {macs / 1e6:.2f} M MACs", f"{100 * mean(found):.1f} +- {100 * spread:.1f}%", "")


def arms(images: Tensor, classes: int, patch_size: int) -> dict[str, Architecture]:
    """A whole network, its MLPs routed in two ways, and one that drops tokens for as much work."""
    fields = {
        **{"input_size": images.shape[-1], "in_chans": images.shape[1], "num_classes": classes},
        **{"patch_size": patch_size, "global_pool": "token"},
    }
    heads = {"num_heads": HEADS, "head_dim": WIDTH // HEADS, "mlp_hidden": RATIO * WIDTH}
    plain, routed = Block(**heads), Block(**heads, mlp_capacity=CAPACITY)

    def made(*blocks: Block, **more: str) -> Architecture:
        return Architecture((Stage(WIDTH, blocks),), **fields, **more)

    def dropping(keep: float) -> Architecture:
        blocks = [plain] * DEPTH
        blocks[DROPPED_AFTER] = Block(**heads, token_keep=keep)
        return made(*blocks)

    learned = made(*[routed] * DEPTH)
    goal = workload(Candidate.uncompressed(learned)).macs
    keeps = [share / 100 for share in range(10, 100)]
    nearest = min(
        keeps, key=lambda k: abs(workload(Candidate.uncompressed(dropping(k))).macs - goal)
    )
    return {
        "all tokens": made(*[plain] * DEPTH),
        f"MLPs for {CAPACITY:.0%}, learned": learned,
        f"MLPs for {CAPACITY:.0%}, random": made(*[routed] * DEPTH, token_routing="random"),
        f"{1 - nearest:.0%} dropped after block {DROPPED_AFTER}": dropping(nearest),
    }


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
