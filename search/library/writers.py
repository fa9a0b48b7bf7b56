"""Writers: heads and hidden units of a network, with all that they give to the residual stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ...spaces.mixers import find
from ..compress.importance import Units, units_of
from .inner import bare, chunked, token_weights, writes_last
from .start import Start, blocks_of, shaped, stages_of, tokens


class Writer(NamedTuple):
    """Units of a module that writes into the stream by a linear layer.

    Attributes:
        units: which they are.
        inner: what they give to the layer, for every token (R, units * size).
        weight: of the layer (out, units * size).
        rows: weights of the tokens (R,).
    """

    units: Units
    inner: Tensor
    weight: Tensor
    rows: Tensor

    @property
    def name(self) -> str:
        """Module and axis, such as "stages.0.blocks.1.attn heads"."""
        return f"{self.units.module} {self.units.axis}"


@torch.no_grad()
def writers(start: Start) -> Iterator[Writer]:
    """All units of a start that write by a linear layer of their own, module by module."""
    for units in units_of(start.network):
        i, j, name = units.place
        block = blocks_of(stages_of(start.network)[i])[j]
        module = block.get_submodule(name)
        if block.post_norm:  # what is added is normed first, and no sum of what units write
            continue
        if name == "mlp" and block.norm2 is not None:
            last, norm, stream = "fc2", block.norm2, start.trace.mixed[i][j]
        else:
            last, norm, stream = find(block.mixer).last, block.norm1, start.trace.enter[i][j]
            if block.layout == "grid" or not writes_last(module, last, norm(stream[:2])):
                continue
        weight = cast("Tensor", getattr(module, last).weight).flatten(1)
        with bare(module, last):
            inner = chunked(_normed(module, norm, block.layout), stream)
        rows = token_weights(stream, start.architecture.prefix).flatten()
        yield Writer(units, inner.flatten(0, 1), weight, rows)


def _normed(module: nn.Module, norm: nn.Module, layout: str) -> Callable[[Tensor], Tensor]:
    """A module after its norm, on tokens (B, N, C) whatever its layout."""
    return lambda stream: tokens(module(norm(shaped(stream, layout))))
