"""Mlp: linear layers around an activation, on tokens or, as 1x1 convolutions, on a grid."""

from __future__ import annotations

from torch import Tensor, nn

from .norms import make_act, make_norm
from .sharing import Shared


class Mlp(nn.Module):
    """The MLP of a block.

    A gated one has two first layers, `fc1_g` whose activation multiplies `fc1_x` (timm's names):
    two, and not one of twice the size, so that both are sliced alike.

    Args:
        width: channels in and out.
        hidden: hidden units.
        act: name of the activation.
        layout: "tokens" for (B, N, C), "grid" for (B, C, H, W).
        gated: whether it is.
        norm: name of the norm of hidden units; none if empty.
        eps: epsilon of that norm.
        bias: whether its layers have biases.

    Attributes:
        readers: names of the layers that read its input.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        act: str,
        layout: str,
        *,
        gated: bool = False,
        norm: str = "",
        eps: float = 1e-6,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.readers = ("fc1_g", "fc1_x") if gated else ("fc1",)
        for name in self.readers:
            self.add_module(name, make_layer(width, hidden, layout, bias))
        self.act = make_act(act)
        self.norm = make_norm(norm, hidden, eps, layout) if norm else None
        self.fc2 = make_layer(hidden, width, layout, bias)
        self.shared = {"fc2.weight": Shared((width, hidden), "_ hidden")}
        for name in self.readers:
            self.shared[f"{name}.weight"] = Shared((hidden, width), "hidden _")
        for name in (*(f"{reader}.bias" for reader in self.readers), "norm.weight", "norm.bias"):
            self.shared[name] = Shared((hidden,), "hidden")

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        first, *gated = (self.get_submodule(name)(x) for name in self.readers)
        x = self.act(first)
        for other in gated:
            x = x * other
        return self.fc2(x if self.norm is None else self.norm(x))


def make_layer(inputs: int, outputs: int, layout: str, bias: bool) -> nn.Module:
    """A layer from each token to itself: linear on tokens, a 1x1 convolution on a grid."""
    if layout == "grid":
        return nn.Conv2d(inputs, outputs, 1, bias=bias)
    return nn.Linear(inputs, outputs, bias=bias)
