"""Backbone: a network that gives the maps of its stages, for detectors and segmenters."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

from torch import Tensor

from ..architecture import Architecture
from ..errors import SpaceError
from ..places import places
from .network import Network, to_grid, to_tokens


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """What one stage gives.

    Attributes:
        name: of the output.
        stride: pixels of the image from one place of the map to the next.
        channels: of the map.
        size: rows and columns.
    """

    name: str
    stride: int
    channels: int
    size: tuple[int, int]


def feature_maps(architecture: Architecture) -> list[FeatureMap]:
    """Maps of an architecture, the finest first; a network without a hierarchy has one.

    Raises:
        SpaceError: tokens were dropped, and what is left is no map.
    """
    found: list[FeatureMap] = []
    for number, stage in enumerate(places(architecture), 1):
        last, (rows, columns) = stage[-1], stage[-1].grid
        if last.kept != rows * columns:
            raise SpaceError(
                f"stage {number}: {last.kept} of {rows * columns} tokens are left, which are no "
                "map: need a model with token_keep 1"
            )
        stride = architecture.stride(number - 1)
        found.append(FeatureMap(f"stage_{number}", stride, last.width, last.grid))
    return found


class Backbone(Network):
    """A network without its head.

    The last map is normalized where the head reads normalized tokens.
    """

    @classmethod
    def of(cls, network: Network) -> Backbone:
        """The backbone of a network, whose parts and weights it shares.

        Raises:
            SpaceError: its stages give no maps.
        """
        feature_maps(network.architecture)
        view = copy(network)
        view.__class__ = cls
        assert isinstance(view, Backbone)
        return view

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Images (B, in_chans, S, S) -> maps (B, C, H, W) of the stages, the finest first."""
        *earlier, (last, layout) = self.stage_outputs(x)
        if self.architecture.final_norm == "tokens":
            last, layout = self.norm(last if layout == "tokens" else to_tokens(last)), "tokens"
        return tuple(self._map(*output) for output in (*earlier, (last, layout)))

    def _map(self, x: Tensor, layout: str) -> Tensor:
        return x if layout == "grid" else to_grid(x[:, self.architecture.prefix :])
