"""Compression: what is done to the weights and activations of every part of a network."""

from __future__ import annotations

from dataclasses import dataclass

BITS = (2, 3, 4, 5, 6, 7, 8, 16, 32)
INTEGER_BITS = 8  # at most this many bits are integers; 16 and 32 are floats


@dataclass(frozen=True, slots=True)
class Policy:
    """How one sub-block is compressed.

    Attributes:
        weight_bits: bits of a weight; 32 is float32.
        act_bits: bits of the activations that enter linear layers. Integer activations need
            integer weights: beside float weights this becomes 32.
        prune_ratio: share of heads or hidden units cut away; the block's numbers are what
            is left.
        rank_ratio: rank of factored weights relative to full rank; 1.0 does not factor.
        sparsity: share of zero weights.
    """

    weight_bits: int = 32
    act_bits: int = 32
    prune_ratio: float = 0.0
    rank_ratio: float = 1.0
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        if self.weight_bits > INTEGER_BITS:
            object.__setattr__(self, "act_bits", 32)


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """Policies of a stage: mixer and MLP of every block, and the downsampling before it."""

    mixer: tuple[Policy, ...]
    mlp: tuple[Policy, ...]
    downsample: Policy = Policy()


@dataclass(frozen=True)
class Compression:
    """Policies of every part of a network."""

    stages: tuple[StagePolicy, ...]
    stem: Policy = Policy()
    head: Policy = Policy()
