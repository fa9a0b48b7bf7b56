"""AttentionPool: pooling by the attention of one learned query (SigLIP, Perception Encoder).

The multihead attention pooling of Set Transformers (Lee et al., arXiv:1810.00825) and of Zhai et
al., arXiv:2106.04560, under timm's names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from .mlp import Mlp
from .norms import make_norm
from .sharing import Shared


class AttentionPool(nn.Module):
    """Attention of a learned query to all tokens, projection, and an MLP with its residual.

    Args:
        width: channels.
        architecture: for heads, hidden units, norm and activation.

    Attributes:
        constant: names of the layers that read nothing of an image; exported graphs hold what they
            give, so that nothing of them is compressed.
    """

    constant = ("q",)

    def __init__(self, width: int, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.num_heads, self.head_dim = a.pool_heads, width // a.pool_heads
        hidden = pool_hidden(a, width)
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.norm = make_norm(a.norm, width, a.norm_eps)
        self.mlp = Mlp(width, hidden, a.act, "tokens")
        heads, whole = (self.num_heads, self.head_dim), (width,)
        # Nothing in it is sorted: no choice makes it shorter but that of the width.
        self.shared = {
            **{f"{name}.weight": Shared((*heads, *whole), "_ _ _") for name in "qkv"},
            **{f"{name}.bias": Shared(heads, "_ _") for name in "qkv"},
            "proj.weight": Shared((*whole, *heads), "_ _ _"),
            "mlp.fc1.weight": Shared((hidden, width), "_ _"),
            "mlp.fc1.bias": Shared((hidden,), "_"),
            "mlp.fc2.weight": Shared((width, hidden), "_ _"),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, C)."""
        q = self.split(self.q(self.latent))  # (1, H, 1, D)
        k, v = self.split(self.k(x)), self.split(self.v(x))  # (B, H, N, D)
        scores = (q * self.head_dim**-0.5 @ k.transpose(-2, -1)).softmax(-1)
        pooled = self.proj((scores @ v).transpose(1, 2).flatten(2))
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]

    def split(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, heads, N, D)."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)


def pool_hidden(architecture: Architecture, width: int) -> int:
    """Hidden units of its MLP."""
    return int(width * architecture.pool_mlp_ratio)
