"""Applied: the functions of a policy's transforms, loaded when a network is first run with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...spaces import Policy
from ...spaces.errors import ConfigError
from ...spaces.transforms import TRANSFORMS, Transform, policy_transforms
from .quantize import straight_through

Pass = tuple[Callable[..., Any], Any]  # function of a transform, and the value of its field


class Passes(NamedTuple):
    """Functions that change the weights of a sub-block before they are rounded, in order."""

    branch: tuple[Pass, ...] = ()
    inputs: tuple[Pass, ...] = ()
    weights: tuple[Pass, ...] = ()


NOTHING = Passes()


@lru_cache(maxsize=1 << 12)
def passes_of(policy: Policy) -> Passes:
    """The passes of a policy.

    Raises:
        ConfigError: the function of a plugin's transform cannot be loaded.
    """
    known = policy_transforms()
    chosen = [(known[name], value) for name, value in policy.others]
    return Passes(*(tuple((load(t), v) for t, v in chosen if t.on == on) for on in Passes._fields))


@cache
def load(transform: Transform) -> Callable[..., Any]:
    """The function of a transform.

    Raises:
        ConfigError: it cannot be loaded.
    """
    module, _, attribute = transform.apply.partition(":")
    try:
        return getattr(import_module(module, __package__), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"transform {transform.name!r}: cannot load its function {transform.apply!r}: {error}"
        ) from error


def transforms() -> list[str]:
    """All transforms, plugins included, a line each: field, allowed values, summary."""
    return [f"{t.name}: {t.allowed}; {t.summary}" for t in TRANSFORMS.values()]


def transformed(weight: Tensor, passes: Passes) -> Tensor:
    """A stored weight (out, ...) with the values that its transforms leave."""
    for apply, value in passes.weights:
        weight = straight_through(weight, apply(weight.detach(), value))
    return weight


def projected(
    weight: Tensor, passes: Passes, gram: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """Directions of the inputs that are kept (in, rank), and their left inverse (rank, in).

    None where a layer is not cut in two: convolutions never are.
    """
    if weight.ndim == 2:
        for apply, value in passes.inputs:
            if (directions := apply(weight.detach(), value, gram)) is not None:
                return directions
    return None


@torch.no_grad()
def branched(
    params: Mapping[str, Tensor], path: str, module: torch.nn.Module, passes: Passes
) -> dict[str, Tensor]:
    """The parameters of a sub-block that its transforms change, by name, without gradients."""
    changed: dict[str, Tensor] = {}
    for apply, value in passes.branch:
        changed |= apply({**params, **changed}, path, module, value)
    return changed
