"""Places: a walk through an architecture that settles every shape once, for all who need it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from .architecture import FUSING, Architecture
from .block import Block, Place


@lru_cache(maxsize=4096)
def places(architecture: Architecture) -> tuple[tuple[Place, ...], ...]:
    """The place of every block, stage by stage.

    >>> from .block import Block
    >>> from .architecture import Stage
    >>> half = Block(num_heads=3, head_dim=64, mlp_hidden=768, token_keep=0.5)
    >>> [[first, second]] = places(Architecture((Stage(192, (half, half)),)))
    >>> first.tokens, first.kept, second.tokens, second.kept
    (196, 99, 99, 51)
    """
    return tuple(_walk(architecture))


def _walk(architecture: Architecture) -> Iterator[tuple[Place, ...]]:
    for index, stage in enumerate(architecture.stages):
        side, act = architecture.side(index), architecture.act_of(index)
        tokens = side * side
        walked: list[Place] = []
        for block in stage.blocks:
            walked.append(place_of(architecture, block, stage.width, side, tokens, act))
            tokens = walked[-1].kept
        yield tuple(walked)


def place_of(
    architecture: Architecture, block: Block, width: int, side: int, tokens: int, act: str
) -> Place:
    """The place of one block.

    Args:
        architecture: what all blocks share.
        block: the block.
        width: of its stage.
        side: of its stage's token grid.
        tokens: patch tokens that enter.
        act: activation of its stage.
    """
    kept = tokens
    if block.token_keep != 1:
        kept = _top(tokens, block.token_keep)
        if architecture.token_reduction in FUSING:  # with the fused one still fewer than entered
            kept = max(1, min(kept + 1, tokens - 1))
    return Place(
        block,
        width,
        (side, side),
        architecture.prefix,
        tokens,
        kept,
        relative=architecture.pos_embed == "relative",
        act=act,
        registers=architecture.registers,
        norm_eps=architecture.norm_eps,
        routed=0 if block.mlp_capacity == 1 else _top(kept, block.mlp_capacity),
        reparam=architecture.reparam,
        mixed=0 if block.mixer_capacity == 1 else _top(tokens, block.mixer_capacity),
        se_gate=architecture.se_gate,
    )


def _top(tokens: int, keep: float) -> int:
    """Tokens that are chosen, at least one; a fused token comes on top."""
    return max(1, round(tokens * keep))
