"""Scheme: how a recipe of a device rounds numbers, so that scoring computes the same."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...cost_models.units.precision_recipes import find_recipe
from .quantize import Grid


class Scheme(NamedTuple):
    """Rounding of one layer.

    Attributes:
        weights: grid of its weights.
        acts: rounding of its inputs: none ("float"), by the range of each image
            ("dynamic"), by a range known beforehand ("static"), or by as many channels as share a
            scale of the weights ("blocks").
        symmetric: whether such a range reaches as far below 0 as above.
    """

    weights: Grid = Grid()
    acts: Literal["float", "dynamic", "static", "blocks"] = "float"
    symmetric: bool = False

    def ends(self, low: Tensor | float, high: Tensor | float) -> tuple[Tensor, Tensor]:
        """Ends of a range as it is used."""
        low, high = torch.as_tensor(low), torch.as_tensor(high)
        if not self.symmetric:
            return low, high
        top = torch.maximum(low.abs(), high.abs())
        return -top, top


def scheme_of(recipe: str, weight_bits: int, is_conv: bool) -> Scheme:
    """The scheme of a layer under a recipe of `precision_recipes.RECIPES`.

    Args:
        recipe: its name.
        weight_bits: of the policy; fewer than the recipe stores means fewer levels.
        is_conv: block-wise recipes have no kernel for convolutions and store them per channel.

    Raises:
        UnknownNameError: no such recipe.

    >>> scheme_of("dynamic8", 6, is_conv=False).weights
    Grid(bits=6, per='channel', symmetric=True, block=32)
    """
    chosen = find_recipe(recipe).of_convs if is_conv else find_recipe(recipe)
    bits = min(weight_bits, chosen.value_bits)
    if chosen.layout == "blocks":
        grid = Grid(bits, "block", block=chosen.block)
        return Scheme(grid, "float" if chosen.activations == "float" else "blocks")
    grid = Grid(bits, "tensor" if chosen.layout == "tensor" else "channel")
    return Scheme(grid, chosen.activations, chosen.symmetric)
