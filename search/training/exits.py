"""Exits: their heads are fitted to a network that is trained, and their confidence calibrated.

The network stays as it is, so that its own answers do, too. A head is a linear layer on features
that do not change, so that its loss is convex and needs no recipe.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ...spaces import Candidate
from ...spaces.exits import has_exits
from ...spaces.networks import Network
from ...spaces.networks.parts import ExitFeatures, exit_heads
from ..compress.network import compressible, run_each
from ..config import DistillConfig
from ..data.dataset import Split, resized
from .forward import BATCH
from .losses import Answer, Lesson, loss_of
from .teacher import Lessons

IMAGES = 50_000  # views of images, at most, to which heads are fitted
STEPS = 100  # of L-BFGS
DECAY = 1e-4  # of squared weights, for features of unit variance
NARROWING = 40  # halvings of the range in which a temperature is

log = logging.getLogger("vitpareto")


def fit_exits(
    candidate: Candidate,
    network: Network,
    lessons: Lessons,
    validation: Split,
    batch_size: int,
    seed: int,
) -> None:
    """Fit the heads of a network's exits in place, if it has any; nothing else of it changes.

    They learn from labels and from the network's own answers, half each as students do, and are
    divided by the temperature that makes their probabilities the likeliest on the validation
    images (Guo et al., arXiv:1706.04599).

    Args:
        candidate: its compression is applied.
        network: trained.
        lessons: train images in all their views.
        validation: images on which confidence is calibrated.
        batch_size: images at once.
        seed: of their order.
    """
    if not has_exits(candidate.architecture):
        return
    network.eval()
    views = min(len(lessons.teacher), max(1, IMAGES // len(lessons.labels)))
    labels, weights = list[Tensor](), list[Tensor]()

    def images() -> Iterable[Tensor]:
        for lesson in lessons.batches(batch_size, views, seed):
            labels.append(lesson.labels)
            weights.extend([] if lesson.weights is None else [lesson.weights])
            yield lesson.images
            if sum(map(len, labels)) >= IMAGES:
                return

    *features, answers = _features(candidate, network, images())
    counted = torch.cat(weights) if weights else None
    *held, _ = _features(candidate, network, validation.batches(BATCH))
    told: list[str] = []
    for head, x, unseen in zip(exit_heads(network), features, held, strict=True):
        lesson = Lesson(x, torch.cat(labels), answers, None, counted)
        loss = partial(_loss, lesson, lessons.config)
        weight, bias = fit_linear(x, answers.shape[1], loss)
        logits = F.linear(unseen, weight, bias)
        heat = temperature(logits, validation.labels)
        with torch.no_grad():
            head.weight.copy_(weight / heat)
            head.bias.copy_(bias / heat)
        right = (logits.argmax(1) == validation.labels).double().mean().item()
        told.append(f"{right:.1%} at temperature {heat:.2f}")
    words = ", ".join(told)
    log.info("%s: its exits alone are right on %s of the validation images", candidate.key, words)


def _loss(lesson: Lesson, config: DistillConfig, logits: Tensor) -> Tensor:
    return loss_of(Answer((logits,), logits), lesson, config)


@torch.no_grad()
def _features(
    candidate: Candidate, network: Network, batches: Iterable[Tensor]
) -> tuple[Tensor, ...]:
    """What exits classify by (N, C) each, and the network's logits (N, K)."""
    view, device = ExitFeatures.of(network), next(network.parameters()).device
    size = candidate.architecture.input_size
    sized = (resized(images.to(device), size) for images in batches)
    layers = compressible(view, candidate)
    found = zip(*run_each(view, view.state_dict(), layers, sized), strict=True)
    return tuple(torch.cat([*each]).float().cpu() for each in found)


def fit_linear(x: Tensor, classes: int, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Weight (K, C) and bias (K,) of the linear layer whose logits have the least loss.

    Args:
        x: features (N, C).
        classes: number of logits K.
        loss: of logits (N, K), convex.
    """
    mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    z = (x - mean) / scale
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(F.linear(z, weight, bias)) + DECAY * weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        scaled = weight / scale
        return scaled, bias - scaled @ mean


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The number by which to divide logits (N, K), so that labels (N,) are the likeliest.

    The loss is convex in its inverse, whose root of the derivative is found by bisection. At most
    e^5: of answers that say nothing none would be cold enough.
    """
    z = logits.double()
    own = z.gather(1, labels[:, None])[:, 0].mean()
    low, high = -5.0, 5.0  # logarithms
    for _ in range(NARROWING):
        middle = (low + high) / 2
        beta = torch.tensor(middle).exp().double()
        expected = ((beta * z).softmax(1) * z).sum(1).mean()
        low, high = (low, middle) if expected > own else (middle, high)
    return float(torch.tensor(-(low + high) / 2).exp())
