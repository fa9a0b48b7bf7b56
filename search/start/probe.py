"""Linear probe: the head of a frozen network, fitted to features that are computed once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...spaces.networks import Network
from ..console import progress
from ..data.balance import class_weights
from ..data.dataset import Data, resized
from ..training.optimizer import fast_matmul, torch_device
from ..training.teacher import BATCH

DECAY = 1.0  # of the summed loss, as scikit-learn's LogisticRegression has it by default
SPREAD = 1e-6  # least deviation of a feature


def fit_head(network: Network, data: Data, passes: int, balanced: bool = False) -> None:
    """Fit the head of a network to one view of the train images, in place.

    It is a multinomial logistic regression with weight decay on standardized features, by L-BFGS
    from zero: the same every time, and without a learning rate.

    Args:
        network: on the device that computes; only its head changes.
        data: images and labels.
        passes: over the features, at most.
        balanced: whether each class counts alike, whatever its number of images.
    """
    labels = data.train_labels
    chunks = torch.arange(len(labels)).split(BATCH)
    with progress(len(labels), "features", "image") as bar:
        parts: list[Tensor] = []
        for images in data.views().batches(0, chunks):
            parts.append(features(network, images))
            bar.update(len(images))
    x, counted = torch.cat(parts), class_weights(labels) if balanced else None
    weight, bias = logistic_regression(x, labels, data.num_classes, passes, counted)
    heads = [head for head in (network.head, network.head_dist) if head is not None]
    with torch.no_grad():
        # Two heads answer with their mean, so that each has twice its part.
        for head, part in zip(heads, weight.chunk(len(heads), 1), strict=True):
            head.get_parameter("weight").copy_(len(heads) * part)
            head.get_parameter("bias").copy_(bias)


@torch.no_grad()
def features(network: Network, images: Tensor) -> Tensor:
    """What the heads of a network see, side by side: (B, C, S, S) -> (B, D)."""
    seen: list[Tensor] = []
    heads = [head for head in (network.head, network.head_dist) if head is not None]

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].float().cpu())

    handles = [head.register_forward_pre_hook(keep) for head in heads]
    try:
        images = resized(images.to(torch_device()), network.architecture.input_size)
        with fast_matmul(images.device):
            network.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(seen, 1)


def logistic_regression(
    x: Tensor, labels: Tensor, classes: int, passes: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of a classifier of features (N, D).

    Args:
        x: features, at any scale.
        labels: (N,).
        classes: number of them.
        passes: of L-BFGS at most.
        weights: of the images (N,).
    """
    mean, std = x.mean(0), x.std(0).clamp_min(SPREAD)
    z = (x - mean) / std
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=passes, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        each = F.cross_entropy(z @ weight.T + bias, labels, reduction="none")
        each = each if weights is None else weights * each
        value = each.mean() + DECAY / (2 * len(z)) * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    scaled = weight.detach() / std
    return scaled, bias.detach() - scaled @ mean
