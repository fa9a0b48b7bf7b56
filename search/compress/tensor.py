"""Tensor decompositions: queries, keys and values of a block as one tensor with few parameters.

Their weights, head by head, form a tensor (heads, head_dim, width) in which keys, values and
queries are simply more heads. Tucker gives every axis a rank of its own and mixes them by a
core; CP is a sum of outer products, a Tucker tensor with a diagonal core. The decompositions
are TensorLy's (Kossaifi et al., JMLR 20, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import gcd, prod
from typing import Any

import torch
from torch import Tensor, nn

from ...spaces.networks.attention import Attention
from ...spaces.packages import needed

Weights = Mapping[str, Tensor]
ITERATIONS = 100  # of alternating least squares


@dataclass(frozen=True)
class Factors:
    """A decomposed tensor (heads, head_dim, width).

    Attributes:
        heads: (heads, a).
        dims: (head_dim, b).
        width: (width, c).
        core: (a, b, c); None for CP, where a = b = c.
    """

    heads: Tensor
    dims: Tensor
    width: Tensor
    core: Tensor | None = None

    def tensor(self) -> Tensor:
        """The tensor that the factors stand for, (heads, head_dim, width)."""
        if self.core is None:
            return torch.einsum("hr,dr,cr->hdc", self.heads, self.dims, self.width)
        return torch.einsum("ijk,hi,dj,ck->hdc", self.core, self.heads, self.dims, self.width)

    @property
    def params(self) -> int:
        """Parameters of the factors."""
        core = 0 if self.core is None else self.core.numel()
        return self.heads.numel() + self.dims.numel() + self.width.numel() + core


def tucker(tensor: Tensor, ranks: Sequence[int]) -> Factors:
    """Tucker decomposition by higher-order orthogonal iteration.

    Args:
        tensor: (heads, head_dim, width).
        ranks: one an axis, cut to its length and to the product of the others.

    Raises:
        MissingPackageError: TensorLy is not installed.
    """
    ranks = [min(rank, length) for rank, length in zip(ranks, tensor.shape, strict=True)]
    ranks = [min(rank, prod(ranks) // rank) for rank in ranks]
    core, (heads, dims, width) = _decomposition().tucker(
        _array(tensor), rank=ranks, n_iter_max=ITERATIONS
    )
    return Factors(*(_tensor(part, tensor) for part in (heads, dims, width, core)))


def cp(tensor: Tensor, rank: int) -> Factors:
    """CP decomposition by alternating least squares, the same each time.

    Args:
        tensor: (heads, head_dim, width).
        rank: number of outer products.

    Raises:
        MissingPackageError: TensorLy is not installed.
    """
    weights, (heads, dims, width) = _decomposition().parafac(
        _array(tensor), rank, n_iter_max=ITERATIONS, init="random", random_state=0
    )
    return Factors(*(_tensor(part, tensor) for part in (heads * weights, dims, width)))


def dim_of(attention: nn.Module) -> int:
    """Channels of a head; of values of another width, the most that both are made of."""
    head_dim: int = attention.head_dim  # pyright: ignore[reportAssignmentType]
    return gcd(head_dim, getattr(attention, "value_dim", head_dim))


def qkv_tensor(params: Weights, prefix: str, head_dim: int) -> Tensor:
    """The weights of queries, keys and values of a module as (all their heads, head_dim, width)."""
    parts = [params[f"{prefix}.{name}.weight"] for name in "qkv"]
    return torch.cat([part.unflatten(0, (-1, head_dim)) for part in parts])


def with_qkv(params: Weights, prefix: str, tensor: Tensor) -> dict[str, Tensor]:
    """All parameters by name, those of one module's queries, keys and values from a tensor.

    The dense form of a decomposition, for training and scoring; `decompose` is the other.
    """
    changed, start = dict(params), 0
    for name in "qkv":
        key = f"{prefix}.{name}.weight"
        heads = len(params[key]) // tensor.shape[1]
        changed[key] = tensor[start : start + heads].flatten(0, 1)
        start += heads
    return changed


def with_tucker(
    params: Weights, prefix: str, attention: nn.Module, ratio: float
) -> dict[str, Tensor]:
    """Queries, keys and values as one Tucker tensor whose axes have a share of their full ranks.

    Raises:
        MissingPackageError: TensorLy is not installed.
    """
    tensor = qkv_tensor(params, prefix, dim_of(attention))
    ranks = [max(1, round(ratio * length)) for length in tensor.shape]
    return _changed(params, prefix, tucker(tensor, ranks))


def with_cp(params: Weights, prefix: str, attention: nn.Module, ratio: float) -> dict[str, Tensor]:
    """Queries, keys and values as a sum of outer products with a share of their parameters.

    Raises:
        MissingPackageError: TensorLy is not installed.
    """
    tensor = qkv_tensor(params, prefix, dim_of(attention))
    rank = max(1, int(ratio * tensor.numel() / sum(tensor.shape)))
    return _changed(params, prefix, cp(tensor, rank))


def _changed(params: Weights, prefix: str, factors: Factors) -> dict[str, Tensor]:
    names = [f"{prefix}.{name}.weight" for name in "qkv"]
    changed = with_qkv({name: params[name] for name in names}, prefix, factors.tensor())
    return {name: changed[name] for name in names}


def decompose(attention: Attention, factors: Factors) -> None:
    """Replace queries, keys and values by thin layers.

    Args:
        attention: any softmax attention.
        factors: of its `qkv_tensor`.
    """
    shared = nn.ParameterList(
        [nn.Parameter(factors.dims), nn.Parameter(factors.width)]
        + ([] if factors.core is None else [nn.Parameter(factors.core)])
    )
    start = 0
    for name in "qkv":
        layer = attention.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        heads = layer.out_features // attention.head_dim
        thin = FactoredHeads(factors.heads[start : start + heads], shared, layer.bias)
        attention.add_module(name, thin)
        start += heads


class FactoredHeads(nn.Module):
    """Queries, keys or values from a decomposed tensor.

    Args:
        heads: factor of its own heads (heads, a).
        shared: factors of head_dim and width, and the core of a Tucker tensor, one set for
            queries, keys and values; a runtime computes the common product once.
        bias: (heads * head_dim,), or none.
    """

    def __init__(self, heads: Tensor, shared: nn.ParameterList, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.heads, self.shared, self.bias = nn.Parameter(heads.clone()), shared, bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., heads * head_dim)."""
        dims, width, *core = self.shared
        x = x @ width  # (..., c)
        if core:
            x = (x @ core[0].flatten(0, 1).T).unflatten(-1, core[0].shape[:2])  # (..., a, b)
            x = self.heads @ x  # (..., heads, b)
        else:
            x = x[..., None, :] * self.heads
        x = (x @ dims.T).flatten(-2)
        return x if self.bias is None else x + self.bias


def _decomposition() -> Any:
    with needed("Tucker or CP"):
        return import_module("tensorly.decomposition")


def _array(tensor: Tensor) -> Any:
    return tensor.detach().double().cpu().numpy()


def _tensor(array: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(array.copy()).to(like)
