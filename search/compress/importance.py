"""Importance of heads and hidden units, and networks cut down to the most important ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ...spaces import Architecture
from ...spaces.mixers import find
from ...spaces.mixers.spec import KEPT
from ...spaces.networks import Network, Shared, shared_of
from ...spaces.supernet import SORTED_AXES

Weights = Mapping[str, Tensor]
_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(\w+)")


class Units(NamedTuple):
    """Heads or hidden units of one module: what is cut away as a whole.

    Attributes:
        module: path of the module, such as "stages.0.blocks.1.attn".
        axis: "heads" or "hidden".
        members: (parameter or buffer, axis of it), all of which are cut alike.
        length: number of units.
    """

    module: str
    axis: str
    members: tuple[tuple[str, int], ...]
    length: int

    @property
    def place(self) -> tuple[int, int, str]:
        """Stage, block and name of the module."""
        found = _BLOCK.fullmatch(self.module)
        assert found, f"{self.module} has units, but is no part of a block"
        return int(found[1]), int(found[2]), found[3]


def taylor(params: Weights, losses: Iterable[Tensor]) -> dict[str, Tensor]:
    """By how much the loss would change without each weight: |weight x gradient|.

    First-order expansion of Molchanov et al., arXiv:1906.10771, summed over batches.
    `Supernet.sort_by_importance` takes the result for `Supernet.params`.

    Args:
        params: parameters by name, those that a loss is differentiated by.
        losses: one a batch, made as they are asked for.
    """
    trained = {name: p for name, p in params.items() if p.requires_grad}
    scores = {name: torch.zeros_like(p) for name, p in trained.items()}
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
        for (name, parameter), gradient in zip(trained.items(), gradients, strict=True):
            scores[name] += (parameter.detach() * gradient).abs()
    return scores


def units_of(network: Network) -> list[Units]:
    """Everything in a network that can be pruned as a unit.

    Heads that share keys and values are left out: they cannot be cut one by one.
    """
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    lengths: dict[tuple[str, str], int] = {}
    for name, (rule, shape) in shared_of(network).items():
        axes, module = rule.axes.split(), _BLOCK.match(name)
        whole = torch.Size(rule.shape).numel() == shape.numel()
        for place, axis in enumerate(axes):
            if axis in SORTED_AXES:
                assert module, f"{name} has an axis that is pruned, but is in no block"
                key = (module[0], axis)
                found.setdefault(key, []).append((name, place))
                lengths[key] = min(lengths.get(key, 1 << 30), rule.shape[place] * whole)
    return [
        Units(*key, tuple(members), lengths[key]) for key, members in found.items() if lengths[key]
    ]


def unit_scores(network: Network, scores: Weights) -> dict[Units, Tensor]:
    """Importance of every unit: the sum over its weights."""
    rules = shared_of(network)

    def score(units: Units) -> Tensor:
        parts = [
            scores[name].reshape(rules[name][0].shape).movedim(axis, 0)
            for name, axis in units.members
            if name in scores
        ]
        return torch.stack([part.reshape(units.length, -1).sum(1) for part in parts]).sum(0)

    return {units: score(units) for units in units_of(network)}


def allot(network: Network, scores: Weights, share: float) -> Architecture:
    """The architecture without the least important `share` of all heads and of all hidden units.

    Only units of the same kind in equal surroundings are ranked against each other: heads with
    heads and hidden units with hidden units of modules of one shape (Fang et al.,
    arXiv:2407.04616). Every module keeps at least one head or eight hidden units.
    """
    groups: dict[tuple[object, ...], list[tuple[Units, Tensor]]] = {}
    for units, values in unit_scores(network, scores).items():
        stage, _, name = units.place
        kind = type(network.get_submodule(units.module))
        groups.setdefault((stage, name, kind, units.axis), []).append((units, values))
    kept: dict[Units, int] = {}
    for members in groups.values():
        everything = torch.cat([values for _, values in members]).sort().values
        cut = everything[min(round(len(everything) * share), len(everything) - 1)]
        for units, values in members:
            left = int((values >= cut).sum()) / units.length
            kept[units] = KEPT[units.axis](units.length, 1 - left)
    return _resized(network.architecture, kept)


def prune(network: Network, smaller: Architecture, scores: Weights | None = None) -> Network:
    """A network with fewer heads and hidden units, made of the most important of a larger one.

    Args:
        network: the larger one.
        smaller: the same architecture but for heads and hidden units.
        scores: importance of every weight by name, as `taylor` gives it; squared weights by
            default.
    """
    state = network.state_dict()
    rules = shared_of(network)
    scores = scores or {name: p.detach().square() for name, p in network.named_parameters()}
    wide = {name: _unfolded(state[name], rule) for name, (rule, _) in rules.items()}
    for units, values in unit_scores(network, scores).items():
        order = values.argsort(descending=True, stable=True)
        for name, axis in units.members:
            wide[name] = wide[name].index_select(axis, order)
    with torch.random.fork_rng(devices=[]):
        pruned = Network(smaller)
    cut = {name: rule.cut(wide[name], shape) for name, (rule, shape) in shared_of(pruned).items()}
    pruned.load_state_dict(pruned.state_dict() | cut)
    return pruned.train(network.training)


def _unfolded(value: Tensor, rule: Shared) -> Tensor:
    """A parameter with the axes of its rule."""
    shape = torch.Size(rule.shape)
    return rule.unfold(value, shape) if rule.unfold else value.reshape(shape)


def _resized(architecture: Architecture, kept: Mapping[Units, int]) -> Architecture:
    """The architecture with other numbers of heads and hidden units."""
    stages = [[*stage.blocks] for stage in architecture.stages]
    for units, count in kept.items():
        i, j, name = units.place
        pruned = {} if name == "mlp" else find(stages[i][j].mixer).pruned
        stages[i][j] = replace(stages[i][j], **{pruned.get(units.axis, "mlp_hidden"): count})
    blocks = zip(architecture.stages, stages, strict=True)
    return replace(architecture, stages=tuple(replace(s, blocks=tuple(b)) for s, b in blocks))
