"""Shared: how a parameter of a plain module is cut from a larger one of the same name.

Every parameter has named axes. It is shared by a leading slice along each of them; axes named
"whole" are taken whole and given to `fold`, which makes the parameter from the slice: a mean
over heads, a resized kernel, the center of a table. `unfold` goes the other way, to fill the
larger parameter from a pretrained one. A module lists its exceptions in a dict named `shared`;
a parameter that is not listed is sliced along the axes of its own shape. Folds are functions of
their module, or partial ones, as networks travel to workers with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

Fold = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Shared:
    """Sharing of one parameter.

    Attributes:
        shape: lengths of the named axes.
        axes: names of the axes, separated by spaces; "heads" and "hidden" can be sorted.
        fold: slice -> parameter, where the parameter is more than the reshaped slice.
        unfold: inverse of fold: (parameter, shape of the slice) -> slice.
        branch: parameters of different branches are not shared with each other.
        start: its initial value everywhere, where its name and axes do not tell.
        together: adjacent heads that a fold joins, which are sorted as one.
    """

    shape: tuple[int, ...]
    axes: str
    fold: Fold | None = None
    unfold: Callable[[Tensor, torch.Size], Tensor] | None = None
    branch: str = ""
    start: float | None = None
    together: int = 1

    def cut(self, source: Tensor, shape: torch.Size) -> Tensor:
        """The parameter of `shape`, as a view of `source` where no fold is needed."""
        view = source[self.index()]
        return self.fold(view) if self.fold else view.reshape(shape)

    def fits(self, source: torch.Size) -> bool:
        """Whether a larger tensor of that shape has the slice."""
        return all(
            axis == "whole" or own <= other
            for axis, own, other in zip(self.axes.split(), self.shape, source, strict=True)
        )

    def index(self) -> tuple[slice, ...]:
        """The slice along every axis."""
        return tuple(
            slice(None) if axis == "whole" else slice(length)
            for axis, length in zip(self.axes.split(), self.shape, strict=True)
        )


def shared_of(network: nn.Module) -> dict[str, tuple[Shared, torch.Size]]:
    """Sharing and shape of every parameter and stored floating buffer."""
    rules: dict[str, Shared] = {}
    for prefix, module in network.named_modules():
        start = f"{prefix}." if prefix else ""
        for name, rule in getattr(module, "shared", {}).items():
            rules.setdefault(start + name, rule)  # an outer module knows more
    return {
        name: (rules.get(name) or plain(tensor.shape), tensor.shape)
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }


def plain(shape: torch.Size) -> Shared:
    """Sharing by a leading slice along every axis."""
    return Shared(tuple(shape), " ".join("_" for _ in shape))


def center(side: int) -> Fold:
    """The middle `side` x `side` of the last two axes, as smaller kernels and windows need."""
    return partial(_center, side=side)


def _center(source: Tensor, side: int) -> Tensor:
    low = [(length - side) // 2 for length in source.shape[-2:]]
    return source[..., low[0] : low[0] + side, low[1] : low[1] + side]


def uncenter(parameter: Tensor, shape: torch.Size) -> Tensor:
    """A larger table that is zero around the given one."""
    pad = [
        (large - small) // 2 for large, small in zip(shape[-2:], parameter.shape[-2:], strict=True)
    ]
    return nn.functional.pad(parameter, (pad[1], pad[1], pad[0], pad[0]))
