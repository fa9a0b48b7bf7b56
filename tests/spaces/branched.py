"""A space in which everything that can be trained in branches may be."""

from dataclasses import replace
from typing import Any

from vitpareto.spaces import Architecture, Candidate, SearchSpace

BLOCKS: dict[str, Any] = {
    "mixer": [
        *("mbconv", "fused_mbconv", "mbconv_act", "mbconv_bias", "conv_next"),
        *("depthwise", "depthwise_residual", "separable", "pool"),
    ],
    "kernel_size": [3, 5],
    "mlp_ratio": [1.0, 2.0],
}
SPEC: dict[str, Any] = {
    **{"name": "branched", "input_size": 16, "patch_size": 2, "num_classes": 5},
    **{"norm": "batch", "pos_embed": "none", "global_pool": "avg"},
    "stem": ["patch", "conv", "convs"],
    "reparam": [False, True],
    "stages": [
        {"depth": [1, 2], "width": [8, 16], "se_ratio": [0, 0.5], "blocks": BLOCKS},
        {
            **{"depth": 2, "width": 16, "blocks": BLOCKS},
            "downsample": ["conv", "mbconv", "overlap", "patch"],
        },
    ],
}
SPACE = SearchSpace(SPEC)


def in_branches(count: int) -> list[Candidate]:
    """Random candidates that are trained in branches."""
    drawn = SPACE.sample(4 * count, seed=1)
    return [c for c in drawn if c.architecture.reparam][:count]


def plain(candidate: Candidate) -> Candidate:
    """The same candidate, trained as it runs."""
    return replace(candidate, architecture=plainly(candidate.architecture))


def plainly(architecture: Architecture) -> Architecture:
    """The same architecture, trained as it runs."""
    return replace(architecture, reparam=False)
