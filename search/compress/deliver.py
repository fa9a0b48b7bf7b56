"""Deliver: from a trained network to the one whose graph is exported."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from ...cost_models.graphs.folding import folded
from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate
from ...spaces.networks import Network
from ...spaces.networks.branches import merge
from .applied import Passes, branched, projected, transformed
from .bias_correction import correct_biases
from .equalize import equalized
from .low_rank import factorized
from .network import UNCALIBRATED, Calibration, branches, calibrate, compressible
from .repq import reparametrize

CORRECTIONS = ("equalize", "repq", "bias")


@torch.no_grad()
def prepared(network: Network, candidate: Candidate, calibration: Calibration) -> Network:
    """A copy to be fine-tuned: matrices of low rank are cut where their inputs lose least.

    Training cuts them again at every step, by the weights alone. On digits at a rank of 0.3 this
    start was worth 9 to 21 points after 80 steps, and whole matrices learned better than factors.

    Args:
        network: plain, of the candidate's architecture.
        candidate: its compression settles the ranks.
        calibration: of the network.
    """
    return _truncated(network, candidate, calibration)[0]


@torch.no_grad()
def deliverable(
    network: Network, candidate: Candidate, calibration: Calibration = UNCALIBRATED
) -> Network:
    """A folded copy for export: weights transformed, matrices of low rank as two linear layers.

    Weights are still float, rounding is the exporter's. Norms and scales are folded into whole
    matrices, which keeps their rank and their zeros; these are split after, and the zeros of a
    split matrix are those of its factors.

    Args:
        network: plain, of the candidate's architecture, trained.
        candidate: its compression.
        calibration: of the same network, for ranks that it does not have yet.
    """
    network, reads = _truncated(network, candidate, calibration)
    layers = compressible(network, candidate)

    def transform(path: str, passes: Passes) -> None:
        weight = network.get_parameter(f"{path}.weight")
        weight.copy_(transformed(weight, passes))

    for name in layers.keys() - reads.keys():
        transform(name, layers[name].passes)
    network = folded(network)
    for name, read in reads.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        network.set_submodule(name, factorized(layer, read))
        for part in "01":
            transform(f"{name}.{part}", layers[name].passes)
    network.compressed = True
    return network


@torch.no_grad()
def compensated(
    delivered: Network,
    candidate: Candidate,
    recipes: Book | Sequence[str],
    calibration_images: Tensor,
    by: Collection[str] = ("repq", "bias"),
) -> Network:
    """A copy that loses less when it is rounded: norms rescaled by RepQ, then biases corrected.

    In float the function moves by as much as the corrected biases; rounding takes it back. For
    networks that were not trained with their rounding. On digits 3-bit weights went from 44% to
    75% correct.

    Args:
        delivered: from `deliverable`.
        candidate: its compression.
        recipes: how the device runs each precision.
        calibration_images: train images at the candidate's input size.
        by: some of `CORRECTIONS`, which follow each other in that order.

    Raises:
        CostError: a precision that the device cannot run.
    """
    network, images = copy.deepcopy(delivered), calibration_images
    layers = compressible(network, candidate, recipes)
    for name in CORRECTIONS:
        if name not in by:
            continue
        params = network.state_dict()
        if name == "bias":
            seen = calibrate(network, params, candidate, images, recipes)
            params = correct_biases(network, params, candidate, images, seen, recipes)
        else:
            seen = calibrate(network, params, candidate, images)
            if name == "repq":
                params = reparametrize(network, params, seen, layers)
            else:
                params = equalized(network, params, seen)
        network.load_state_dict(params)
    return network


def _truncated(
    network: Network, candidate: Candidate, calibration: Calibration
) -> tuple[Network, Mapping[str, Tensor]]:
    """A copy with whole matrices of low rank, and the directions that each of them reads."""
    network = copy.deepcopy(network)
    merge(network)
    layers, reads = compressible(network, candidate), dict[str, Tensor]()
    for passes, (path, branch) in branches(layers):
        params = dict(network.named_parameters())
        for name, value in branched(params, path, branch, passes).items():
            params[name].copy_(value)
    for name, layer in layers.items():
        weight = network.get_parameter(f"{name}.weight")
        if projection := projected(weight, layer.passes, calibration.gram(name)):
            reads[name], right = projection
            weight.copy_(weight @ reads[name] @ right)
    return network, reads
