"""Start: the network that candidates are cut from, and what its stream holds for some images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ...spaces import Architecture
from ...spaces.errors import SpaceError
from ...spaces.networks import Network, shared_of
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.branches import branches_of, merged
from ...spaces.networks.network import NetworkStage, to_grid, to_tokens
from ...spaces.networks.refit import resized_network
from ...spaces.supernet import shared_name
from ..data.dataset import resized

CHUNK = 64  # images at once: what they hold stays near the processor


class Trace(NamedTuple):
    """Residual stream of a network for some images, as tokens (B, N, C) whatever the layout.

    Attributes:
        enter: what enters each block, stage by stage; the last of a stage is what leaves it.
        mixed: what each block's mixer leaves.
        logits: (B, K).
    """

    enter: list[list[Tensor]]
    mixed: list[list[Tensor]]
    logits: Tensor


class Wide(NamedTuple):
    """A parameter with its named axes, as `Shared.axes` gives them."""

    value: Tensor
    axes: tuple[str, ...]


@dataclass(eq=False)
class Start:
    """A trained network as data, which travels to workers without what follows from it.

    Attributes:
        architecture: its shapes.
        weights: its parameters and buffers by name.
        images: normalized, without labels (N, in_chans, S, S).

    Raises:
        SpaceError: the network drops tokens.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    images: Tensor

    def __post_init__(self) -> None:
        if any(block.token_keep < 1 for block in self.architecture.blocks()):
            raise SpaceError("a start must keep all its tokens: its blocks have token_keep below 1")

    @classmethod
    def of(cls, network: Network, images: Tensor) -> Start:
        """A copy of a network's weights, with branches in them, as plain candidates have none."""
        state = merged(branches_of(network), network.state_dict())
        weights = {n: v.detach().cpu().clone() for n, v in state.items()}
        return cls(network.architecture, weights, images)

    def __getstate__(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in ("architecture", "weights", "images")}

    @cached_property
    def network(self) -> Network:
        """The network itself, which must not be changed."""
        return network_with(self.architecture, self.weights)

    @cached_property
    def trace(self) -> Trace:
        """Its stream for the images."""
        return trace(self.network, self.images)

    def through(self, patch_size: int) -> Start:
        """The start as it sees through patches of another size, traced once.

        Raises:
            SpaceError: it is bound to its own.
        """
        if patch_size not in self._through:
            size = self.architecture.input_size
            network = resized_network(self.network, size, patch_size)
            self._through[patch_size] = Start.of(network, self.images)
        return self._through[patch_size]

    @cached_property
    def _through(self) -> dict[int, Start]:
        return {self.architecture.patch_size: self}

    @cached_property
    def stems(self) -> dict[Hashable, list[dict[str, Tensor]]]:
        """Patch embeddings repaired toward it, as `Twins.state`, by what they depend on."""
        return {}

    @cached_property
    def wide(self) -> dict[str, Wide]:
        """Its parameters with their named axes, by the name under which they are shared."""
        return wide(self.network)


def network_with(architecture: Architecture, weights: Mapping[str, Tensor]) -> Network:
    """A network in evaluation mode with a copy of these weights."""
    with torch.random.fork_rng(devices=[]):  # its initial weights are replaced
        network = Network(architecture)
    network.load_state_dict({**network.state_dict(), **weights})
    return network.eval().requires_grad_(False)


def wide(network: torch.nn.Module) -> dict[str, Wide]:
    """Parameters and buffers of a module with their named axes, by shared name."""
    state = network.state_dict()
    return {
        shared_name(name, rule): Wide(
            rule.unfold(state[name], torch.Size(rule.shape))
            if rule.unfold
            else state[name].reshape(rule.shape),
            tuple(rule.axes.split()),
        )
        for name, (rule, _) in shared_of(network).items()
    }


@torch.no_grad()
def trace(network: Network, images: Tensor) -> Trace:
    """The stream of a network in evaluation mode for some images."""
    images = resized(images, network.architecture.input_size)
    parts = [_trace(network, chunk) for chunk in images.split(CHUNK)]
    first = parts[0]

    def joined(name: str) -> list[list[Tensor]]:
        return [
            [torch.cat([getattr(part, name)[i][j] for part in parts]) for j in range(len(stage))]
            for i, stage in enumerate(getattr(first, name))
        ]

    logits = torch.cat([part.logits for part in parts])
    return Trace(joined("enter"), joined("mixed"), logits)


def _trace(network: Network, images: Tensor) -> Trace:
    enter: list[list[Tensor]] = []
    mixed: list[list[Tensor]] = []
    x = stem(network, images)
    for stage in stages_of(network):
        x = downsampled(stage, x)
        enter.append([x])
        mixed.append([])
        for block in blocks_of(stage):
            x = block.mix(shaped(x, block.layout))
            mixed[-1].append(tokens(x))
            x = tokens(block.feed(x))
            enter[-1].append(x)
    return Trace(enter, mixed, network.forward_head(network.norm(x)))


@torch.no_grad()
def logits(network: Network, images: Tensor) -> Tensor:
    """Answers (B, K) of a network in evaluation mode, some images at once."""
    images = resized(images, network.architecture.input_size)
    return torch.cat([network(part) for part in images.split(CHUNK)])


def stem(network: Network, images: Tensor) -> Tensor:
    """Images (B, in_chans, S, S) -> tokens (B, prefix + N, C) that enter the first stage."""
    return network.embed(to_tokens(network.patch_embed(images)))


def downsampled(stage: NetworkStage, x: Tensor) -> Tensor:
    """Tokens on the grid of a stage."""
    if stage.downsample is None:
        return x
    return tokens(stage.downsample(shaped(x, str(stage.downsample.layout))))


def on_grid(stream: Tensor, theirs: Architecture, ours: Architecture, i: int) -> Tensor:
    """A network's stream (B, N, C) in a stage, on the grid and channels of a smaller network."""
    side, prefix, theirs_side = ours.side(i), ours.prefix, theirs.side(i)
    stream = stream[:, :, : ours.stages[i].width]
    if side == theirs_side:
        return stream
    grid = stream[:, prefix:].transpose(1, 2).unflatten(-1, (theirs_side,) * 2)
    return torch.cat([stream[:, :prefix], tokens(F.adaptive_avg_pool2d(grid, side))], 1)


def shaped(x: Tensor, layout: str) -> Tensor:
    """Tokens (B, N, C) in the layout of a module."""
    return to_grid(x) if layout == "grid" else x


def tokens(x: Tensor) -> Tensor:
    """Tokens (B, N, C) of either layout."""
    return to_tokens(x) if x.ndim == 4 else x


def stages_of(network: Network) -> list[NetworkStage]:
    """The stages of a network."""
    return [cast("NetworkStage", stage) for stage in network.stages]


def blocks_of(stage: NetworkStage) -> list[ResidualBlock]:
    """The blocks of a stage."""
    return [cast("ResidualBlock", block) for block in stage.blocks]
