"""What pretrained networks have or lack keeps the laws of all others, over random candidates."""

import pytest
import torch

from vitpareto.cost_models.graphs.contract import MixerCostContract
from vitpareto.spaces import Block, Candidate, SearchSpace, SpaceError
from vitpareto.spaces.contract import MixerContract
from vitpareto.spaces.mixers import find
from vitpareto.spaces.networks.attention import Attention
from vitpareto.spaces.networks.reduction import RandomReduction, TokenReduction
from vitpareto.spaces.networks.rotary import rotate, tables
from vitpareto.spaces.places import places

from .helpers import difference, images, place, randomized, small


class TestDinoV2(MixerContract, MixerCostContract):
    """Registers, positions of patches, gated MLPs, no head; tokens may be dropped."""

    name = "softmax"
    fields = """
num_heads: [2, 3]
head_dim: 8
registers: 2
pos_embed: patches
num_classes: 0
act: silu
mlp: glu
layer_scale: true
token_keep: [1.0, 0.5]
token_reduction: [evit, evit_mean, random]
"""


class TestEva(MixerContract, MixerCostContract):
    """A class token that is not pooled, rotary positions, norms inside, a norm after pooling."""

    name = "softmax"
    fields = """
num_heads: [2, 3]
head_dim: 8
no_bias: k
qk_norm: layer
out_norm: layer
rope: index
rope_base: 100.0
rope_size: 5
registers: 1
global_pool: avg
final_norm: pooled
mlp: glu
mlp_norm: true
act: silu
pos_embed: none
patch_size: [4, 7]
"""


class TestPerceptionEncoder(MixerContract, MixerCostContract):
    """A norm before the blocks, no bias of patches, attention pooling of all tokens."""

    name = "softmax"
    fields = """
num_heads: [2, 3]
head_dim: 8
rope: index
rope_base: 10000.0
rope_offset: 1.0
registers: 1
global_pool: map
pool_registers: true
pool_heads: 4
pool_mlp_ratio: 1.5
pre_norm: true
stem_bias: false
act: quick_gelu
"""


class TestDinoV3(MixerContract, MixerCostContract):
    """Rotary positions from border to border, grouped heads, RMS norms without biases."""

    name = "grouped"
    fields = """
num_heads: [2, 4]
kv_heads: [1, 2, 4]
head_dim: 8
no_bias: all
mlp_bias: false
qk_norm: rms
norm: rms
rope: centered
rope_base: 100.0
registers: 3
global_pool: token_avg
pos_embed: none
act: gelu_tanh
"""


class TestPooledWithRegisters(MixerContract, MixerCostContract):
    """Another mixer beside registers, the mean of patches alone, and no last norm."""

    name = "pooled"
    fields = """
num_heads: [2, 3]
head_dim: 8
kv_pool: [2, 3]
registers: 2
global_pool: avg
final_norm: none
no_bias: qkv
qk_norm: layer
"""


def test_rotary_products_depend_on_distance() -> None:
    """Turned queries and keys see how far apart two tokens are, not where they are."""
    at = place(1, 5, head_dim=8, rope="index", rope_base=10.0)
    cos, sin = tables(at)
    q, k = (torch.randn(8).expand(26, 8) for _ in range(2))
    scores = rotate(q, cos, sin) @ rotate(k, cos, sin).T
    grid = scores[1:, 1:].unflatten(0, (5, 5)).unflatten(-1, (5, 5))
    assert difference(grid[0, 0, 1, 2], grid[3, 2, 4, 4]) < 1e-4
    assert difference(grid[0, 0, 1, 2], grid[0, 0, 2, 1]) > 1e-3
    assert scores[0, 0].item() == pytest.approx(float(q[0] @ k[0]), abs=1e-5)  # not turned


def test_rotary_against_complex_numbers() -> None:
    at = place(2, 3, head_dim=8, rope="index", rope_base=7.0, rope_offset=1.0, rope_size=6)
    x = torch.randn(11, 8)
    turned = rotate(x, *tables(at))
    for row in range(3):
        for column in range(3):
            token = 2 + 3 * row + column
            for pair in range(4):
                axis = (row, column)[pair // 2]
                angle = torch.tensor((axis + 1) * 2.0) / 7.0 ** (pair % 2 / 2)
                number = torch.complex(x[token, pair], x[token, pair + 4])
                expected = number * torch.polar(torch.tensor(1.0), angle)
                assert turned[token, pair].item() == pytest.approx(expected.real.item(), abs=1e-5)
                assert turned[token, pair + 4].item() == pytest.approx(
                    expected.imag.item(), abs=1e-5
                )


def test_rotary_tables_are_one_for_all_blocks() -> None:
    at = place(1, 5, head_dim=8, rope="centered", rope_base=10.0)
    assert Attention(at).cos is Attention(at).cos


def test_registers_are_never_dropped() -> None:
    """Nor does a register rank tokens as a class token would."""
    drops = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=24, token_keep=0.25)
    for pool in ("avg", "token", "map"):
        a = small(drops, drops, global_pool=pool, registers=3, pool_heads=4)
        assert [p.kept for [*stage] in places(a) for p in stage] == [17, 5]
        assert randomized(a)(images(a)).shape == (2, 5)
        tokens = torch.randn(2, a.prefix + 64, 24)
        scores = torch.rand(2, 3, a.prefix + 64, a.prefix + 64)
        [[first, _]] = places(a)
        for kind in (TokenReduction, RandomReduction):
            left = kind(first)(tokens, scores)
            assert left[:, : a.prefix].equal(tokens[:, : a.prefix])
        seen = scores[:, :, 0] if pool == "token" else scores.mean(2)
        best = seen.mean(1)[:, a.prefix :].argmax(1)
        left = TokenReduction(first)(tokens, scores)
        for image in range(2):
            assert left[image, a.prefix].equal(tokens[image, a.prefix + best[image]])


@pytest.mark.parametrize(
    ("pool", "seen"), [("avg", 64), ("map", 64), ("token", 1), ("token_avg", 65)]
)
def test_what_pooling_sees(pool: str, seen: int) -> None:
    plain = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=24)
    for all_of_them in (False, True):
        a = small(plain, global_pool=pool, registers=3, pool_registers=all_of_them, pool_heads=4)
        network = randomized(a)
        tokens = torch.randn(1, a.prefix + 64, 24, requires_grad=True)
        network.forward_head(tokens).sum().backward()
        assert tokens.grad is not None
        counted = int((tokens.grad.abs().sum(-1) > 0).sum())
        assert counted == seen + 3 * (all_of_them and pool in ("avg", "map"))


def test_what_has_no_effect_is_not_part_of_a_candidate() -> None:
    plain = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=24)
    bare = small(plain, global_pool="token")
    same = small(plain, global_pool="token", pool_heads=3, pool_registers=True, pool_mlp_ratio=2.0)
    assert same == bare
    assert Candidate.uncompressed(same).key == Candidate.uncompressed(bare).key
    convolved = small(plain, stem="conv", stem_bias=False)
    assert convolved == small(plain, stem="conv")


ONE = {"depth": 1, "width": 24, "num_heads": 3, "head_dim": 8}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"registers": 2, "mixer": "window", "global_pool": "avg"},
            "cannot carry registers, got 2",
        ),
        ({"global_pool": "avg", "pos_embed": "patches"}, "'patches' is 'learned' where"),
        ({"final_norm": "pooled", "norm": "group"}, "norm 'group' does without"),
        ({"final_norm": "pooled", "global_pool": "token_avg"}, "which pools two vectors"),
        ({"global_pool": "map", "pool_heads": 5}, "pool_heads 5 must divide the width, 24"),
        ({"rope": "index"}, "needs rope_base above 1"),
        ({"rope": "index", "rope_base": 10.0, "head_dim": 6}, "a multiple of 4, not 10.0 and 6"),
        ({"rope": "index", "rope_base": 10.0, "token_keep": 0.5}, "would lose the positions"),
        ({"rope": "spiral", "rope_base": 10.0}, "no such value 'spiral'"),
        ({"no_bias": "qkv", "norm": "batch"}, "is folded into the biases"),
        ({"registers": [0, 1]}, "one value"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, object], reason: str) -> None:
    spec = {"input_size": 28, "patch_size": 4, "stages": [{}], **ONE, **fields}
    with pytest.raises(SpaceError, match=reason):
        SearchSpace(spec)


def test_a_hand_written_network_cannot_turn_what_was_dropped() -> None:
    drops = Block("softmax", num_heads=3, head_dim=8, token_keep=0.5)
    turns = Block("softmax", num_heads=3, head_dim=8, rope="index", rope_base=10.0)
    with pytest.raises(SpaceError, match="needs the whole token grid"):
        randomized(small(drops, turns))
    assert find("softmax").uses_grid(turns) and not find("softmax").uses_grid(drops)
