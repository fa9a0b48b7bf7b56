"""What tests of mixers against formulas need."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitpareto.spaces import Place

from .helpers import randomize


def make(kind: type[nn.Module], at: Place, seed: int = 0) -> nn.Module:
    module = kind(at).eval()
    randomize(module.state_dict(), seed)
    return module


def tokens(at: Place) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, at.prefix + at.tokens, at.width, generator=generator)


def attention_by_torch(module: nn.Module, x: Tensor, source: Tensor, **options: object) -> Tensor:
    """Softmax attention with a module's layers and torch's own kernel."""

    def split(layer: nn.Module, t: Tensor) -> Tensor:
        return layer(t).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)

    q, k, v = split(module.q, x), split(module.k, source), split(module.v, source)
    out = F.scaled_dot_product_attention(q, k, v, **options)
    return module.proj(out.transpose(1, 2).flatten(2))
