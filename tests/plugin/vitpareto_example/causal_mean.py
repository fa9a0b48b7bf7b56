"""A mixer: every token sees the mean of those before it, by an operator that few runtimes have."""

from __future__ import annotations

from typing import Any

from vitpareto.spaces import Block, Place, ops
from vitpareto.spaces.mixers import Mixer


def operations(place: Place) -> list[ops.Op]:
    """Running sums, and a linear layer."""
    rows, width = place.tokens, place.width
    return [ops.elementwise(rows * width), ops.linear(rows, width, width)]


def module(place: Place) -> Any:
    """The layers, (B, N, C) -> (B, N, C); torch is imported when a network is built."""
    import torch
    from torch import Tensor, nn

    class CausalMean(nn.Module):
        """Means of tokens in order."""

        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(place.width, place.width)
            counts = torch.arange(1.0, place.tokens + 1)[:, None]
            self.register_buffer("counts", counts, persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            """ONNX calls the sum CumSum."""
            return self.proj(x.cumsum(1) / self.counts)

    return CausalMean()


SPEC = Mixer(
    module="vitpareto_example.causal_mean:module",
    ops=operations,
    example=Block("causal_mean"),
    last="proj",
)
