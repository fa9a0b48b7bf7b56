"""Low rank: matrices and tensors as products of smaller ones."""

from __future__ import annotations

from ..mixers import Mixer
from ..mixers.common import QKV
from ..ops import Op, low_rank
from .transform import Transform

STOPS = (0.25, 0.5, 0.75, 1.0)


def raised(ratio: float) -> float:
    """The next stop above."""
    return next(stop for stop in STOPS if stop > ratio)


def factored(ops: list[Op], ratio: float) -> list[Op]:
    """Operations with two linear layers for each that becomes smaller so."""
    return [part for op in ops for part in low_rank(op, ratio)]


def has_heads(part: str, mixer: Mixer | None) -> bool:
    """Whether a part has queries, keys and values, head by head, each a linear layer of its own."""
    if part != "mixer" or mixer is None:
        return False
    return {*QKV} <= {*mixer.readers, *mixer.batch_norms.values()}


# Cut to its rank from the start of training: what is left adapts to it.
RANK_RATIO = Transform(
    "rank_ratio",
    1.0,
    "rank of factored matrices relative to full rank",
    range=(0.01, 1),
    on="inputs",
    apply=".low_rank:projection",
    back=raised,
    ops=factored,
    coordinate="rank",
)
# Dense again in artifacts, so that operations stay as they are.
TUCKER_RATIO = Transform(
    "tucker_ratio",
    1.0,
    "ranks of queries, keys and values as one Tucker tensor, relative to its axes",
    range=(0.01, 1),
    on="branch",
    apply=".tensor:with_tucker",
    applies=has_heads,
    back=raised,
)
CP_RATIO = Transform(
    "cp_ratio",
    1.0,
    "parameters of queries, keys and values as a sum of outer products (CP), relative to dense",
    range=(0.01, 1),
    on="branch",
    apply=".tensor:with_cp",
    applies=has_heads,
    back=raised,
)
