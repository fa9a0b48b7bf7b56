"""The largest network of a derived space is the one that it was derived from."""

import pytest

from vitpareto.cost_models import workload
from vitpareto.spaces import Architecture, Block, Candidate, SpaceError, Stage
from vitpareto.spaces.derive import derived_space


def vit(depth: int, width: int, heads: int, **fields: object) -> Architecture:
    block = Block("softmax", num_heads=heads, head_dim=width // heads, mlp_hidden=4 * width)
    return Architecture((Stage(width, (block,) * depth),), **fields)


@pytest.mark.parametrize(
    "architecture",
    [
        vit(12, 192, 3),
        vit(8, 128, 4, input_size=32, patch_size=4, num_classes=10),
        vit(2, 32, 4, input_size=16, patch_size=4, in_chans=1, layer_scale=True),
        vit(1, 32, 1, input_size=16, patch_size=16, pos_embed="none"),
        vit(12, 384, 6, global_pool="avg", norm_eps=1e-5),
        vit(12, 384, 6, input_size=384, global_pool="distill", act="relu"),
    ],
)
def test_the_largest_is_the_network(architecture: Architecture) -> None:
    space = derived_space(architecture, "own")
    assert space.largest() == Candidate.uncompressed(architecture)
    assert space.size >= 9
    small, large = (workload(c) for c in (space.smallest(), space.largest()))
    assert small.macs < 0.7 * large.macs and small.params < large.params


def test_other_mixers_are_for_many_tokens() -> None:
    def mixers(size: int) -> set[str]:
        space = derived_space(vit(4, 64, 2, input_size=size), "own")
        return {b.mixer for c in space.sample(40) for b in c.architecture.blocks()}

    assert mixers(224) == {"softmax"}
    assert mixers(384) == {"softmax", "pooled", "linear"}


def test_blocks_that_differ_are_refused() -> None:
    blocks = tuple(
        Block("softmax", num_heads=2, head_dim=16, mlp_hidden=hidden) for hidden in (64, 128)
    )
    with pytest.raises(SpaceError, match="no space can be derived from own"):
        derived_space(Architecture((Stage(32, blocks),)), "own")
