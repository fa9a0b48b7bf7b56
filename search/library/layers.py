"""Layers: what the blocks of a candidate leave, pulled toward what the start has there.

Layer-wise distillation (Jiao et al., TinyBERT, arXiv:1909.10351; of pruned networks Xia et al.,
CoFi, arXiv:2204.00408). As candidates are cut from the start, no projection between widths has to
be learned: a block is compared with the start where the next block that both have begins, which is
also what repair moves it to. A coarser grid is compared with means of the start's tokens, a
narrower stream with the first channels, and where a candidate has dropped tokens only class and
register tokens are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...spaces.networks import Network
from ..training.losses import Streams, stream_loss
from ..training.optimizer import fast_matmul
from .parts import Depths, Library, kept_blocks
from .start import network_with, on_grid, trace


@dataclass(frozen=True, eq=False)
class LayerLoss:
    """A loss of students on their streams; travels to workers.

    Attributes:
        start: the network that they are cut from.
        dropped: the order in which its blocks are given up, as in `Library`.
        weight: of the loss.
    """

    start: Network
    dropped: Depths
    weight: float

    @classmethod
    def of(cls, library: Library, weight: float) -> LayerLoss:
        """The loss of students that are cut from a library."""
        start = library.start
        return cls(network_with(start.architecture, start.weights), library.dropped, weight)

    def __call__(self, streams: Streams, images: Tensor) -> Tensor:
        """Mean over the blocks of a student of what they do not say of the start's stream.

        Args:
            streams: of the student.
            images: that it has seen (B, C, S, S).

        Raises:
            SpaceError: it is not cut from the start.
        """
        ours, theirs = streams.architecture, self.start.architecture
        kept = kept_blocks(theirs, self.dropped, ours)
        device = streams.left[0][0].device
        with fast_matmul(device):
            enter = trace(self.start.to(device), images.to(device)).enter
        losses = [
            stream_loss(own, on_grid(enter[i][end], theirs, ours, i), ours.prefix)
            for i, stage in enumerate(streams.left)
            for own, end in zip(stage, (*kept[i][1:], len(theirs.stages[i].blocks)), strict=True)
        ]
        return self.weight * torch.stack(losses).mean()
