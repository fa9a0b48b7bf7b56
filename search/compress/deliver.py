"""Deliver: from a trained network to the one whose graph is exported, and what that will say."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...cost_models.folding import folded
from ...cost_models.precision import Book
from ...spaces import Candidate
from ...spaces.networks import Network
from .low_rank import Factored, directions, factorised
from .network import UNCALIBRATED, Calibration, calibrate, compressible, run
from .observe import Range, min_max
from .sparsity import sparsify


@torch.no_grad()
def factored(
    network: Network, candidate: Candidate, calibration: Calibration = UNCALIBRATED
) -> Network:
    """A copy whose matrices of low rank are two linear layers each, to be trained as such.

    Args:
        network: plain, of the candidate's architecture.
        candidate: its compression settles the ranks.
        calibration: what weighs the errors.
    """
    network, reads = _truncated(network, candidate, calibration)
    return _split(network, reads)


@torch.no_grad()
def merged(network: Network) -> Network:
    """A plain copy of a factored network, with the same function; `factored` gives it back."""
    network = copy.deepcopy(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, Factored):
            network.set_submodule(name, module.merged())
    return network


@torch.no_grad()
def deliverable(
    network: Network, candidate: Candidate, calibration: Calibration = UNCALIBRATED
) -> Network:
    """A folded copy for export: zeros in place, matrices of low rank as two linear layers.

    Weights are still float, rounding is the exporter's. Norms and scales are folded into whole
    matrices, which keeps their rank and their zeros, and these are split after.

    Args:
        network: plain or factored, of the candidate's architecture, trained.
        candidate: its compression.
        calibration: of the same network, for ranks that it does not have yet.
    """
    network, reads = _truncated(merged(network), candidate, calibration)
    for name, layer in compressible(network, candidate).items():
        if name not in reads:
            weight = network.get_parameter(f"{name}.weight")
            weight.copy_(sparsify(weight, layer.policy.sparsity))
    return _split(folded(network), reads)


@torch.no_grad()
def delivered_logits(
    delivered: Network,
    candidate: Candidate,
    images: Tensor,
    recipes: Book | Sequence[str],
    calibration_images: Tensor,
    choose: Range = min_max,
) -> Tensor:
    """What the artifact will say, rounding for rounding: (B, K).

    Args:
        delivered: from `deliverable`.
        candidate: its compression.
        images: (B, C, S, S) at its input size.
        recipes: what the device runs each precision with.
        calibration_images: those with which the artifact is calibrated.
        choose: how its ranges are chosen.

    Raises:
        CostError: a precision that the device cannot run.
    """
    params = delivered.state_dict()
    calibration = calibrate(delivered, params, candidate, calibration_images, choose)
    return run(delivered, params, candidate, images, recipes, calibration)


def _truncated(
    network: Network, candidate: Candidate, calibration: Calibration
) -> tuple[Network, Mapping[str, Tensor]]:
    """A copy with whole matrices of low rank, and the directions that each of them reads."""
    network = copy.deepcopy(network)
    reads: dict[str, Tensor] = {}
    for name, layer in compressible(network, candidate).items():
        if layer.rank:
            weight = network.get_parameter(f"{name}.weight")
            reads[name], right = directions(weight, layer.rank, calibration.gram(name))
            weight.copy_(weight @ reads[name] @ right)
    return network, reads


def _split(network: Network, reads: Mapping[str, Tensor]) -> Network:
    for name, read in reads.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        network.set_submodule(name, factorised(layer, read))
    return network
