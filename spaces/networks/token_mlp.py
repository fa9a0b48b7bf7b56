"""The token-MLP of MLP-Mixer (Tolstikhin et al., arXiv:2105.01601)."""

from __future__ import annotations

from torch import Tensor, nn

from ..block import Place
from .norms import make_act
from .sharing import Shared


class TokenMlp(nn.Module):
    """Two linear layers across tokens, the same for every channel; tied to one token count."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        tokens, hidden = place.tokens, place.block.token_hidden
        self.fc1 = nn.Linear(tokens, hidden)
        self.act = make_act(place.act)
        self.fc2 = nn.Linear(hidden, tokens)
        self.shared = {
            "fc1.weight": Shared((hidden, tokens), "hidden _"),
            "fc1.bias": Shared((hidden,), "hidden"),
            "fc2.weight": Shared((tokens, hidden), "_ hidden"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.fc2(self.act(self.fc1(x.transpose(1, 2)))).transpose(1, 2)
