"""Bias correction: the mean error of a compressed layer, undone where the layer adds its bias.

Compression shifts the mean output of a layer by a constant for each channel, which a bias undoes
at no cost. Layers are corrected one after the other, each on the outputs of the corrected ones
before it: the empirical correction of Nagel et al. (arXiv:1906.04721). It holds for any
compression, rounded activations, low rank and zeros included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate
from ...spaces.networks import Network
from .network import DEFAULT_RECIPES, Calibration, call, compressed, compressible, roundings


@torch.no_grad()
def correct_biases(
    network: Network,
    params: Mapping[str, Tensor],
    candidate: Candidate,
    images: Tensor,
    calibration: Calibration,
    recipes: Book | Sequence[str] = DEFAULT_RECIPES,
) -> dict[str, Tensor]:
    """All parameters by name, biases such that compressed layers keep their mean outputs.

    Layers without a bias stay as they are.

    Args:
        network: of the candidate's architecture.
        params: its parameters and buffers by name, in float.
        candidate: its compression.
        images: those of the calibration, all in one batch.
        calibration: of the network; it holds the mean outputs in float.
        recipes: as for `network.run`.

    Raises:
        CostError: a precision that the device cannot run.
    """
    corrected = dict(params)
    layers = compressible(network.eval(), candidate, recipes)
    weights = compressed(params, layers, calibration)
    enter, leave = roundings(layers, calibration, len(images))

    def leave_corrected(name: str, y: Tensor) -> Tensor:
        key, before = f"{name}.bias", calibration.before[name]
        if key not in corrected:
            return leave(name, y)
        shift = before.left_mean - before.rows(y).mean(0)
        corrected[key] = corrected[key] + shift
        is_conv = isinstance(layers[name].module, nn.Conv2d)
        return leave(name, y + (shift[:, None, None] if is_conv else shift))

    call(network, weights, images, layers, enter, leave_corrected)
    return corrected
