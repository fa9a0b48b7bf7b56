"""Inherited: candidates scored with the weights of the supernet, as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate
from ...spaces.networks import Network
from ...spaces.supernet import Supernet, blueprint
from ..compress import run, run_batches
from ..compress.network import DEFAULT_RECIPES
from ..data.dataset import Split, resized
from ..training.accuracy import accuracy
from ..training.forward import BATCH, on_device
from ..training.optimizer import torch_device

STATISTICS = 512  # train images from which batch-norm statistics are taken


class Evaluator:
    """Scores candidates with inherited weights on the search split.

    Args:
        supernet: trained shared weights.
        search: images that score.
        train: images from which batch-norm statistics are estimated.
        recipes: how the device runs each precision; logits are then those of its kernels.
    """

    def __init__(
        self,
        supernet: Supernet,
        search: Split,
        train: Split,
        recipes: Book | Sequence[str] = DEFAULT_RECIPES,
    ) -> None:
        self.supernet, self._recipes = supernet, recipes
        self._search, self._train = search, train.some(STATISTICS).images

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracies with their 95% intervals."""
        return accuracy(self.logits(candidate), self._search.labels)

    @torch.inference_mode()
    def logits(self, candidate: Candidate) -> Tensor:
        """Logits on the search split with the candidate's compression applied: (N, K)."""
        network, _ = blueprint(candidate.architecture)
        device, size = torch_device(), candidate.architecture.input_size
        params = on_device(network, self.supernet.inherit(candidate), device)
        seen = resized(self._train, size).to(device)
        params |= batch_statistics(network, params, candidate, seen)
        batches = (b.to(device) for b in self._search.batches(BATCH, size))
        return run_batches(network.eval(), params, candidate, batches, self._recipes).cpu()


def batch_statistics(
    network: Network, params: Mapping[str, Tensor], candidate: Candidate, images: Tensor
) -> dict[str, Tensor]:
    """Running means and variances of one pass over `images`, by name; none without batch norm.

    Inherited statistics are those of a mixture of networks and fit none of them.
    """
    norms = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    if not norms:
        return {}
    statistics = {
        f"{name}.{buffer}": params[f"{name}.{buffer}"].clone()
        for name in norms
        for buffer in ("running_mean", "running_var")
    }
    usual = {module: module.momentum for module in norms.values()}
    for module in norms.values():
        module.momentum = 1.0  # statistics of this pass alone
    try:
        run(network.train(), {**params, **statistics}, candidate, images)
    finally:
        for module, momentum in usual.items():
            module.momentum = momentum
    return statistics
