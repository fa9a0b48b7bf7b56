"""Guides: whom a candidate of other patches follows while it is repaired.

It is moved toward the start's stream: pooled onto its coarser grid, or as it is when the start
itself looks through the candidate's patches. A start that has learned to do that is the better
guide: of the 73.7% that a DeiT-Tiny kept through patches of 24 instead of 16 pixels, repair toward
the pooled stream left 60.9%. One that has not is the worse one. So both are tried, and compared on
other images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from ...spaces import Candidate, SearchSpace
from ...spaces.errors import SpaceError
from .divergence import divergence
from .parts import Library
from .repair import assemble
from .start import logits


def unknown_guides(library: Library, space: SearchSpace) -> Iterator[int]:
    """Patch sizes of a space of which a library does not know whether the start sees with them."""
    known = {library.start.architecture.patch_size, *library.sees}
    sizes = dict.fromkeys(c.architecture.patch_size for c in space.covering())
    return (size for size in sizes if size not in known)


@torch.no_grad()
def is_guide(library: Library, patch_size: int) -> bool:
    """Whether the start through other patches is nearer to itself than a repair makes them.

    Half of the images are for the repair, and the answers to the others are compared.

    Args:
        library: of the start.
        patch_size: in pixels.
    """
    half = len(library.start.images) // 2
    try:
        through = library.start.through(patch_size)
    except SpaceError:  # a mixer is bound to the number of tokens
        return False
    alone = replace(library.seeing(half), sees={patch_size: False})
    repaired = assemble(alone, Candidate.uncompressed(through.architecture))
    wanted, images = library.start.trace.logits[half:], library.start.images[half:]
    as_it_is, moved = (divergence(wanted, logits(n, images)) for n in (through.network, repaired))
    return as_it_is <= moved
