"""Slices: a candidate's network, each parameter cut from the start or from an option."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ...spaces import Architecture
from ...spaces.errors import SpaceError
from ...spaces.networks import Network, Shared, shared_of
from ...spaces.supernet import SORTED_AXES, shared_name
from .parts import Depths, Library, option_name
from .start import Wide

_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.((\w+).*)")


@torch.no_grad()
def sliced(library: Library, architecture: Architecture, kept: Depths | None = None) -> Network:
    """A candidate's network before any repair.

    Heads and hidden units are the most important ones in their old order, so that nothing moves
    where nothing is cut. Parameters that neither start nor option has begin as in a new network,
    always the same one.

    Args:
        library: what is cut.
        architecture: of the candidate.
        kept: the start's blocks that stay; those of the library by default.

    Raises:
        SpaceError: the candidate is larger than the start.
    """
    kept = kept or library.kept(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = Network(architecture)
    state = network.state_dict()
    for name, (rule, shape) in shared_of(network).items():
        source, units = _source(library, architecture, kept, name, rule)
        if source is not None:
            state[name] = _cut(source, rule, shape, units, name)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def original(name: str, kept: Depths) -> str:
    """Name in the start of what a candidate's parameter comes from."""
    found = _BLOCK.fullmatch(name)
    if not found:
        return name
    i, j = int(found[1]), int(found[2])
    return f"stages.{i}.blocks.{kept[i][j]}.{found[3]}"


def _source(
    library: Library, architecture: Architecture, kept: Depths, name: str, rule: Shared
) -> tuple[Wide | None, dict[str, Tensor]]:
    """What a parameter is cut from, and the order of the units along its axes."""
    found = _BLOCK.fullmatch(name)
    if not found:
        return library.start.wide.get(shared_name(name, rule)), {}
    i, j, rest, module = int(found[1]), int(found[2]), found[3], found[4]
    origin = kept[i][j]
    path = f"stages.{i}.blocks.{origin}"
    order = {
        axis: library.units[f"{path}.{module} {axis}"]
        for axis in SORTED_AXES
        if f"{path}.{module} {axis}" in library.units
    }
    option = library.options.get(option_name(i, origin, architecture.stages[i].blocks[j]), {})
    own = option.get(shared_name(rest, rule))
    return own or library.start.wide.get(shared_name(f"{path}.{rest}", rule)), order


def _cut(
    source: Wide, rule: Shared, shape: torch.Size, order: Mapping[str, Tensor], name: str
) -> Tensor:
    value = source.value
    if tuple(rule.axes.split()) != source.axes or not rule.fits(value.shape):
        raise SpaceError(
            f"the candidate is larger than the start: {name} needs {tuple(shape)}, and the start "
            f"has {tuple(value.shape)}"
        )
    for position, axis in enumerate(source.axes):
        length = rule.shape[position]
        whole = value.shape[position]
        if axis in order and length < whole:
            # An option may have fewer units than the start: the most important, renumbered.
            ranked = order[axis][:whole].argsort().argsort()
            value = value.index_select(position, ranked[:length].sort().values)
    return rule.cut(value, shape).clone()
