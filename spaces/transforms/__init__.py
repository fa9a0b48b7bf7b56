"""Transforms: the ways to compress weights and activations of every part of a network.

A new one is a file with a `Transform` and one line here, or an entry point of the group
`vitpareto.transforms` in a plugin, named as its field. Policies, space files, counts, training,
delivery and the way back from an artifact that does not hold all go over this registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ..registry import Registry
from .transform import Transform

# In the order in which an artifact that does not hold tries to take them back.
TRANSFORMS: Registry[Transform] = Registry(
    "transform",
    {
        "weight_bits": ".bits:WEIGHT_BITS",
        "act_bits": ".bits:ACT_BITS",
        "weight_scales": ".bits:WEIGHT_SCALES",
        "prune_ratio": ".prune_ratio:PRUNE_RATIO",
        "sparsity": ".sparsity:SPARSITY",
        "rank_ratio": ".low_rank:RANK_RATIO",
        "n_m": ".sparsity:N_M",
        "block_sparsity": ".sparsity:BLOCK_SPARSITY",
        "tucker_ratio": ".low_rank:TUCKER_RATIO",
        "cp_ratio": ".low_rank:CP_RATIO",
        "weight_zero": ".listed:WEIGHT_ZERO",
        "rewrite": ".listed:REWRITE",
    },
    __name__,
)


@cache
def policy_transforms() -> Mapping[str, Transform]:
    """Field of a policy -> its transform; loaded when first asked for, plugins included.

    Raises:
        ConfigError: a plugin's transform cannot be loaded.
    """
    return {name: transform for name, transform in TRANSFORMS.items() if transform.searched}


__all__ = ["TRANSFORMS", "Transform", "policy_transforms"]
