"""Placement: the sub-block of a candidate to which each kernel, value and constant belongs.

An exported graph is cut where branches return to the residual stream, which are the sub-blocks of
its candidate in their order. What a runtime makes of the graph keeps names of its values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ...spaces.errors import CostError
from ..foreign.onnx_counting import Piece
from ..foreign.onnx_pieces import choosing, pieces_of
from ..runtimes.kernel import Kernel
from ..units.sub_block import SubBlock

BRANCHES = ("mixer", "mlp")
OFF = 0.5  # of its multiply-accumulates, that a graph may fold away, such as a query of attention
_MADE_OF = re.compile(r"(/|_nchwc|_new_reshape|_token_).*$")  # what ONNX Runtime adds to a name


def placed_pieces(model: Any, blocks: Sequence[SubBlock]) -> list[tuple[int, Piece]]:
    """Pieces of a graph, each with the index of its sub-block.

    Args:
        model: `onnx.ModelProto` of a network, which is changed as `pieces_of` says.
        blocks: of its candidate, in order.

    Raises:
        CostError: the graph is not that of the candidate, or two of its sub-blocks cannot be told
            apart.
    """
    for one, other in pairwise(block for block in blocks if block.ops()):
        if one.kind not in BRANCHES and other.kind not in BRANCHES:
            raise CostError(
                f"{one.kind} and {other.kind} ({other.variant}) follow each other with no branch "
                "between them, by which a graph is cut: such a network has no profile"
            )
    pieces, head = pieces_of(model), len(blocks) - 1
    at, listed, chooses = 0, list[tuple[int, Piece]](), choosing(pieces)
    for number, piece in enumerate(pieces):
        following = range(at + 1, len(blocks))
        if piece.is_branch:
            at = next((i for i in following if _is_branch(blocks[i])), head)
        elif number in chooses:
            fed = next((i for i in following if _is_branch(blocks[i])), head)
            listed.append((fed, piece))
            continue
        elif piece.scattered and not piece.linears and not piece.convolutions:
            pass  # puts back what the branch before it has changed
        elif number and (down := _next(blocks, at)) < head and blocks[down].kind == "downsample":
            at = down
        elif number == len(pieces) - 1 or _next(blocks, at) == head:
            at = head
        # Else it is the stem, or drops tokens of the mixer before it.
        listed.append((at, piece))
    _check(listed, blocks)
    return listed


def _check(placed: Sequence[tuple[int, Piece]], blocks: Sequence[SubBlock]) -> None:
    """Check that sub-blocks got the pieces that compute as much as they do.

    Raises:
        CostError: they did not.
    """
    found, images = {at for at, _ in placed}, placed[0][1].enters[0]
    missing = [b.kind for i, b in enumerate(blocks) if i not in found and b.ops()]
    if missing:
        raise CostError(
            f"the graph is not that of its candidate: {len(placed)} pieces for {len(blocks)} "
            f"sub-blocks, and none for {', '.join(dict.fromkeys(missing))}; or some of these have "
            "no residual, by which a graph is cut: such a network has no profile"
        )
    macs = [0.0] * len(blocks)
    for at, piece in placed:
        macs[at] += piece.macs / images
    for block, has in zip(blocks, macs, strict=True):
        if abs(has - block.macs) > OFF * max(has, block.macs):
            raise CostError(
                f"{block.kind} ({block.variant}) of {block.macs:,} multiply-accumulates got "
                f"{has:,.0f} of the graph, which is that of another candidate, or has residuals "
                "inside of sub-blocks, by which it is cut: such a network has no profile"
            )


def _next(blocks: Sequence[SubBlock], at: int) -> int:
    """Index of the next sub-block that computes anything."""
    return next((i for i in range(at + 1, len(blocks)) if blocks[i].ops()), len(blocks) - 1)


def _is_branch(block: SubBlock) -> bool:
    """Whether a sub-block returns to the stream; an identity that stands for a mixer is nothing."""
    return block.kind in BRANCHES and bool(block.ops())


def place_kernels(kernels: Sequence[Kernel], places: Mapping[str, int]) -> list[int]:
    """Index of the sub-block of each kernel.

    Args:
        kernels: in the order of execution.
        places: value of the graph -> index of its sub-block.
    """
    found: list[int | None] = []
    for kernel in kernels:
        names = (*(value.name for value in kernel.writes), _MADE_OF.sub("", kernel.name))
        found.append(next((places[name] for name in names if name in places), None))
    # Others prepare what the next kernels read: layouts of values, mostly.
    for i in reversed(range(len(kernels))):
        if found[i] is None:
            made = {value.name for value in kernels[i].writes}
            takers = (j for j in range(i + 1, len(kernels)) if made & {*kernels[j].reads})
            found[i] = next((found[j] for j in takers), None)
    listed: list[int] = []
    for at in found:
        listed.append(at if at is not None else listed[-1] if listed else 0)
    return listed
