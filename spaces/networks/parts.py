"""Parts: a network with exits as plain modules, all exits at once or one part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Self, cast

import torch
from torch import Tensor, nn

from ..exits import exits_in
from .exits import ExitHead
from .network import Network, NetworkStage, passed


class _View(Network):
    """A network that shares parts and weights with another, under the same names."""

    @classmethod
    def of(cls, network: Network) -> Self:
        """The view of a network."""
        view = copy(network)
        view.__class__ = cls
        return cast("Self", view)

    def parts(self) -> Iterator[tuple[list[nn.Module], ExitHead | None]]:
        """What each part runs in order, and its head; None for the network's own."""
        steps: list[nn.Module] = []
        for stage in self.stages:
            assert isinstance(stage, NetworkStage)
            steps += [] if stage.downsample is None else [stage.downsample]
            for done, block in enumerate(stage.blocks, 1):
                steps.append(block)
                if str(done) in stage.exits:
                    yield steps, cast("ExitHead", stage.exits[str(done)])
                    steps = []
        yield steps, None

    def streams(self, x: Tensor) -> Iterator[tuple[Tensor, ExitHead | None, str]]:
        """Images (B, in_chans, S, S) -> what each part leaves, its head, and the layout."""
        x, layout = self.enter(x)
        for steps, head in self.parts():
            for module in steps:
                x, layout = passed(module, x, layout)
            yield x, head, layout


class EveryExit(_View):
    """A network that gives the logits of all its heads."""

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, S, S) -> logits of exits in order, then its own (E, B, classes)."""
        logits = [
            head(stream) if head else self.leave(stream, layout)
            for stream, head, layout in self.streams(x)
        ]
        return torch.stack(logits)


class ExitFeatures(_View):
    """A network that gives what its exits classify by, and its own logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Images (B, in_chans, S, S) -> features (B, C) of each exit, then logits (B, classes)."""
        return tuple(
            head.pool(stream) if head else self.leave(stream, layout)
            for stream, head, layout in self.streams(x)
        )


class Part(_View):
    """One part of a network with exits.

    The first takes images, each other what the one before it hands over. All but the last give
    logits and what they hand over.
    """

    index = 0

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Images (B, in_chans, S, S), or a stream -> logits (B, classes), and the stream."""
        steps, head = list(self.parts())[self.index]
        layout = "grid" if x.ndim == 4 else "tokens"
        if not self.index:
            x, layout = self.enter(x)
        for module in steps:
            x, layout = passed(module, x, layout)
        return (head(x), x) if head else self.leave(x, layout)


def parts_of(network: Network) -> list[Part]:
    """The parts of a network in order; one where it has no exits."""
    count = 1 + sum(1 for _ in exits_in(network.architecture))
    parts = [Part.of(network) for _ in range(count)]
    for index, part in enumerate(parts):
        part.index = index
    return parts


@torch.no_grad()
def input_shapes(network: Network, batch: int = 1) -> list[tuple[int, ...]]:
    """Shape of what goes into each part."""
    a = network.architecture
    x: Tensor = torch.zeros(batch, a.in_chans, a.input_size, a.input_size)
    shapes: list[tuple[int, ...]] = []
    for part in parts_of(network):
        shapes.append(tuple(x.shape))
        found = part(x)
        x = found[1] if isinstance(found, tuple) else found
    return shapes


def exit_heads(network: Network) -> list[ExitHead]:
    """The heads in the middle of a network, in order."""
    return [head for _, head in _View.of(network).parts() if head]
