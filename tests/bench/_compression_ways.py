"""Ways in which the benchmark of compression makes a network smaller: bits, ranks, zeros, cuts."""

from __future__ import annotations

from typing import NamedTuple

from vitpareto.search.delivery.decompression import with_policy
from vitpareto.spaces import Architecture, Candidate, Policy

from ..shared import everywhere

FLOAT, STORED, STATIC = ("float",), ("float", "stored8", "stored4"), ("float", "static8", "static4")
REFERENCE = "float32"


class Way(NamedTuple):
    """A way to compress a network.

    Attributes:
        name: for people.
        recipes: by which numbers are rounded, one for each precision.
        policy: of all blocks.
        ends: of stem and head, which are small and lose most; that of the blocks by default.
        cut: share of all heads and of all hidden units that are cut away, the least important.
    """

    name: str
    recipes: tuple[str, ...]
    policy: Policy
    ends: Policy | None = None
    cut: float = 0.0

    def candidate(self, architecture: Architecture) -> Candidate:
        """A network with that compression, of an architecture that is cut already."""
        chosen = everywhere(Candidate.uncompressed(architecture), self.policy)
        for path in ("stem", "head") if self.ends is not None else ():
            chosen = with_policy(chosen, path, self.ends)
        return chosen


W8, W4, W8A8 = Policy(8), Policy(4), Policy(8, 8)
TENSOR8, TENSOR4 = ("float", "stored8_tensor"), ("float", "stored8", "stored4_tensor")

# Kernels of ONNX Runtime do not add up zeros or wider scales: only cuts, ranks and integers make
# faster.
WAYS = (
    Way(REFERENCE, FLOAT, Policy()),
    Way("8-bit weights, a scale a channel", STORED, W8),
    Way("8-bit weights, a scale a tensor", TENSOR8, Policy(8, weight_scales="tensor")),
    Way("int8, fixed ranges", STATIC, W8A8),
    Way(
        "int8, fixed ranges, a scale a tensor",
        ("float", "static8_tensor"),
        Policy(8, 8, weight_scales="tensor"),
    ),
    Way("int8, ranges of each image", ("float", "dynamic8", "static8"), W8A8),
    Way("4-bit weights, a scale a channel", STORED, W4, W8),
    Way("4-bit weights, a scale a tensor", TENSOR4, Policy(4, weight_scales="tensor"), W8),
    *(
        Way(
            f"4-bit weights, a scale for {block} inputs",
            ("float", "stored8", recipe),
            Policy(4, weight_scales=f"block{block}"),
            W8,
        )
        for block, recipe in ((32, "blocks4"), (128, "blocks4_128"))
    ),
    Way(
        "4-bit weights, a scale for 32 inputs, int8 kernels",
        ("float", "static8", "blocks4a8"),
        Policy(4, 8, weight_scales="block32"),
        W8A8,
    ),
    Way("4-bit weights, int8 kernels, fixed ranges", STATIC, Policy(4, 8), W8A8),
    Way("half the ranks", FLOAT, Policy(rank_ratio=0.5), Policy()),
    Way("half the ranks, int8, fixed ranges", STATIC, Policy(8, 8, rank_ratio=0.5), W8A8),
    Way("half the ranks, 4 bits, int8 kernels", STATIC, Policy(4, 8, rank_ratio=0.5), W8A8),
    Way("75% zeros", FLOAT, Policy(sparsity=0.75), Policy()),
    Way("75% zeros, int8, fixed ranges", STATIC, Policy(8, 8, sparsity=0.75), W8A8),
    Way("75% zeros, 4-bit weights", STORED, Policy(4, sparsity=0.75), W8),
    Way("90% zeros, 4-bit weights", STORED, Policy(4, sparsity=0.9), W8),
    Way("2:4 zeros, int8, fixed ranges", STATIC, Policy(8, 8, n_m="2:4"), W8A8),
    Way("half the blocks of 16 zero, 4 bits", STORED, Policy(4, block_sparsity=0.5), W8),
    Way(
        "half the ranks, half of them zeros, 4 bits, int8 kernels",
        STATIC,
        Policy(4, 8, rank_ratio=0.5, sparsity=0.5),
        W8A8,
    ),
    Way("a quarter of heads and hidden units cut", FLOAT, Policy(), cut=0.25),
    Way("a quarter cut, int8, fixed ranges", STATIC, W8A8, cut=0.25),
    Way("a quarter cut, 4 bits, int8 kernels", STATIC, Policy(4, 8), W8A8, cut=0.25),
    Way("half cut, int8, fixed ranges", STATIC, W8A8, cut=0.5),
    Way("half cut, 4 bits, int8 kernels", STATIC, Policy(4, 8), W8A8, cut=0.5),
)
