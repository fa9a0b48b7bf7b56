"""Depth: the order in which blocks are given up, the least missed one first.

Blocks go one by one, each time the one without which the repaired network diverges least from the
start: scores of single blocks cannot be added up, for one matters more when its neighbor is gone.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...spaces import Architecture, Candidate
from .divergence import divergence
from .parts import Depths, Library
from .repair import assemble
from .start import Start, logits

IMAGES = 128  # on which blocks are compared


class Without:
    """Divergence of the start with some blocks only; sent to a worker once.

    Args:
        start: whose blocks are left out.
    """

    def __init__(self, start: Start) -> None:
        images = start.images[:IMAGES]
        self._library = Library(Start(start.architecture, start.weights, images))

    @torch.no_grad()
    def __call__(self, kept: Depths) -> float:
        """Mean divergence in nats of the repaired network.

        Args:
            kept: its blocks, stage by stage.
        """
        start = self._library.start
        stages = tuple(
            replace(stage, blocks=tuple(stage.blocks[j] for j in blocks))
            for stage, blocks in zip(start.architecture.stages, kept, strict=True)
        )
        candidate = Candidate.uncompressed(replace(start.architecture, stages=stages))
        network = assemble(self._library, candidate, kept=kept)
        return divergence(start.trace.logits, logits(network, start.images))


def rivals(start: Architecture, dropped: Depths, stage: int) -> dict[int, Depths]:
    """Blocks of a stage that may go next -> the blocks that stay then.

    Other stages are whole, so that the order in one does not depend on the others.
    """
    whole = [tuple(range(len(other.blocks))) for other in start.stages]
    gone = dropped[stage] if dropped else ()
    left = [block for block in whole[stage] if block not in gone]

    def stay(block: int) -> Depths:
        kept = tuple(other for other in left if other != block)
        return tuple(kept if i == stage else blocks for i, blocks in enumerate(whole))

    return {block: stay(block) for block in left}
