"""Inner: what enters the layer by which a module writes into the residual stream."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .start import CHUNK

PREFIX_WEIGHT = 8.0  # of class tokens, from which the head reads


@contextmanager
def bare(module: nn.Module, last: str) -> Generator[None]:
    """Let a module give what enters its last layer, in the order of its outputs."""
    layer = getattr(module, last)
    setattr(module, last, nn.Identity())
    try:
        yield
    finally:
        setattr(module, last, layer)


def writes_last(mixer: nn.Module, last: str, x: Tensor) -> bool:
    """Whether what a linear layer of a mixer writes is its output, token by token.

    Args:
        mixer: on tokens.
        last: name of the layer; empty if there is none.
        x: some inputs of the mixer (B, N, C).
    """
    layer = getattr(mixer, last, None) if last else None
    if not isinstance(layer, nn.Linear):
        return False
    whole = mixer(x)
    with bare(mixer, last):
        inner = mixer(x)
    if inner.shape != (*x.shape[:2], layer.in_features):
        return False
    return torch.allclose(layer(inner), whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))


def chunked(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function on some images at a time."""
    return torch.cat([run(part) for part in x.split(CHUNK)])


def token_weights(x: Tensor, prefix: int) -> Tensor:
    """Weights of the tokens of a stream (B, N, C) in a regression: (B, N)."""
    weights = torch.ones(x.shape[:2])
    weights[:, :prefix] = PREFIX_WEIGHT
    return weights
