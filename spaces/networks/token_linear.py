"""The linear layer across tokens of ResMLP (Touvron et al., arXiv:2105.03404)."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place


class TokenLinear(nn.Module):
    """A linear layer across tokens, the same for every channel; tied to one token count."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.fc = nn.Linear(place.tokens, place.tokens)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.fc(x.transpose(1, 2)).transpose(1, 2)
