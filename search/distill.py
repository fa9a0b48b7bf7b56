"""Distillation: the shared weights of the supernet, and then each finalist on its own."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from ..spaces import Candidate, SearchSpace
from ..spaces.networks import Network
from ..spaces.supernet import Supernet, blueprint, shared_name
from .compress import run
from .config import SupernetConfig, TrainConfig
from .data import resized
from .progress import progress
from .teacher import Lessons
from .training import (
    Optimiser,
    check_finite,
    distillation_loss,
    fast_matmul,
    soft_cross_entropy,
)

POSITION_STD = 0.5  # tokens start with unit variance; a weaker table takes long to be noticed


def train_supernet(
    space: SearchSpace, lessons: Lessons, config: SupernetConfig, seed: int
) -> Supernet:
    """Shared weights that serve every candidate of a space.

    Each step trains the largest candidate on labels and teacher, then the smallest and some
    random ones on what the largest just said: the sandwich rule with in-place distillation (Yu
    et al., BigNAS, arXiv:2003.11142). Random candidates bring their compression with them.

    Raises:
        RunError: the loss is no number.
    """
    supernet = from_scratch(space, seed)
    largest, smallest = space.largest(), space.smallest()
    rng = random.Random(seed)
    steps = lessons.steps(config.batch_size, config.epochs)
    optimiser = Optimiser(supernet.parameters(), config, steps)
    with progress(steps, "supernet") as bar:
        for images, labels, teacher in lessons.batches(config.batch_size, config.epochs, seed):
            logits = forward(supernet, largest, images)
            loss = distillation_loss(logits, labels, teacher)
            loss.backward()
            target = logits.detach().softmax(-1)
            for candidate in (smallest, *(space.draw(rng) for _ in range(config.random))):
                logits = forward(supernet, candidate, images)
                soft_cross_entropy(logits, target).backward()
            bar.set_postfix(loss=check_finite(loss, "supernet", bar.n), refresh=False)
            optimiser.step()
            bar.update()
    return supernet


@torch.no_grad()
def from_scratch(space: SearchSpace, seed: int) -> Supernet:
    """Shared weights to start from: every layer keeps the variance of what enters it.

    With timm's standard deviation of 0.02, made for widths of several hundred, narrow networks
    pass on almost nothing. One candidate of `digits` had learnt 47% after 150 steps from that
    start, 81% from this one.
    """
    supernet = Supernet(space, seed)
    fan_in: dict[str, int] = {}
    for candidate in space.covering():
        for name, (rule, shape) in blueprint(candidate.architecture)[1].items():
            if name.endswith("weight") and len(shape) > 1:
                shared = shared_name(name, rule)
                fan_in[shared] = max(fan_in.get(shared, 0), shape[1:].numel())
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in supernet.params.items():
        if name in fan_in:
            parameter.normal_(std=fan_in[name] ** -0.5, generator=generator)
        elif name == "pos_embed":
            parameter.normal_(std=POSITION_STD, generator=generator)
    return supernet


def forward(supernet: Supernet, candidate: Candidate, images: Tensor) -> Tensor:
    """Logits in float32 of a candidate in training mode, compression applied: (B, K)."""
    network, _ = blueprint(candidate.architecture)
    images = resized(images, candidate.architecture.input_size)
    with fast_matmul():
        logits = run(network.train(), supernet.inherit(candidate), candidate, images)
    return logits.float()


def fine_tune(
    candidate: Candidate, network: Network, lessons: Lessons, config: TrainConfig, seed: int
) -> Network:
    """A finalist trained on its own, with its compression in the loop (QAT), in place.

    Returns:
        The network in eval mode; its weights are float, rounding is the export's.

    Raises:
        RunError: the loss is no number.
    """
    steps = lessons.steps(config.batch_size, config.epochs)
    optimiser = Optimiser(network.parameters(), config, steps)
    network.train()
    with progress(steps, f"fine-tuning {candidate.key}") as bar:
        for images, labels, teacher in lessons.batches(config.batch_size, config.epochs, seed):
            images = resized(images, candidate.architecture.input_size)
            with fast_matmul():
                logits = run(network, dict(network.named_parameters()), candidate, images)
            loss = distillation_loss(logits.float(), labels, teacher)
            loss.backward()
            bar.set_postfix(loss=check_finite(loss, "fine-tuning", bar.n), refresh=False)
            optimiser.step()
            bar.update()
    return network.eval()
