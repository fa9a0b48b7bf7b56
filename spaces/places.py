"""Places: a walk through an architecture that settles every shape once, for all who need it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from .architecture import Architecture
from .block import Place


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
    fused = architecture.token_reduction == "evit"
    for index, stage in enumerate(architecture.stages):
        side = architecture.grid >> index
        tokens = side * side
        found: list[Place] = []
        for block in stage.blocks:
            kept = tokens if block.token_keep == 1 else _top(tokens, block.token_keep) + fused
            found.append(
                Place(
                    block=block,
                    width=stage.width,
                    grid=(side, side),
                    prefix=architecture.prefix,
                    tokens=tokens,
                    kept=kept,
                    relative=architecture.pos_embed == "relative",
                    act=architecture.act,
                )
            )
            tokens = kept
        yield tuple(found)


def _top(tokens: int, keep: float) -> int:
    """Tokens that survive on their own; the fused token comes on top."""
    return max(1, round(tokens * keep))
