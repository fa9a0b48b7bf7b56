"""The laws of all mixers, with every number and pruning, and what none of them can."""

import pickle
import re
from dataclasses import replace

import pytest
import torch

from vitpareto.spaces import Block, SearchSpace, mixers
from vitpareto.spaces.contract import MixerContract
from vitpareto.spaces.errors import ConfigError, SpaceError
from vitpareto.spaces.mixers import MIXERS, Number, find
from vitpareto.spaces.networks import shared_of
from vitpareto.spaces.safe_yaml import parse_yaml
from vitpareto.spaces.schema import in_use

from .helpers import images, randomized, small


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


IMPOSSIBLE = {
    "{mixer: banded, token_keep: 0.5}": "token_keep 0.5 cannot follow mixer 'banded'",
    "{mixer: banded, band: 64}": "band 64 must be at least 1, and less than the tokens of the 8x8",
    "{mixer: linformer, kv_tokens: 65}": "kv_tokens 65 must be at least 1, and at most the tokens",
    "{mixer: linformer, patch_size: [4, 8]}": "'linformer' has weights for one number of tokens",
    "{mixer: mobilevit, inner_heads: 5}": "inner_heads that divide inner_width, not 2, 5 and 64",
    "{mixer: unfold, unfold_size: 3}": "unfold_size 3 must divide the token grid of 8x8",
    "{mixer: focal, focal_levels: 5}": "focal_levels 5 must be at least 1, and squares",
    "{mixer: halo, halo: 9}": "halo 9 is larger than the token grid of 8x8",
    "{mixer: halo, global_pool: token}": "mixer 'halo' cannot carry a class token",
    "{mixer: aggregate, global_tokens: 0}": "needs global_tokens above 0",
    "{mixer: performer, num_features: 0}": "needs num_features above 0",
    "{mixer: performer, token_keep: 0.5}": "has no attention map of all tokens to rank them by",
    "{mixer: talking_heads, input_size: 28, attn_stride: 2}": "must be 1 or 2 and divide the token",
    "{mixer: cascaded, num_groups: 3}": "num_groups that divide the width, not 16, 3 and 16",
    "{mixer: cascaded, key_dim: [8, 16]}": "key_dim: takes one value, not a choice",
    "{mixer: cascaded, key_dim: 4, num_groups: 2, kernel_step: 1}": "kernel_step must be even",
    "{mixer: cascaded_window, window_size: 9}": "window_size 9 is larger than the token grid",
}


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_what_cannot_work_is_refused_when_a_space_is_read(text: str) -> None:
    around = {"name": "x", "input_size": 32, "patch_size": 4, "num_classes": 3, "num_heads": 2}
    stages = {"global_pool": "avg", "stages": [{"depth": 2, "width": 16}]}
    with pytest.raises(SpaceError, match=re.escape(IMPOSSIBLE[text])):
        SearchSpace(around | stages | parse_yaml(text, "x"))


def test_a_band_is_never_drawn_after_tokens_were_dropped() -> None:
    stage = {"depth": 3, "width": 16, "token_keep": [1.0, 0.5], "token_keep_at": "0"}
    stage["blocks"] = {"mixer": ["softmax", "banded", "identity"]}
    around = {"name": "x", "input_size": 32, "patch_size": 4, "num_classes": 3, "num_heads": 2}
    space = SearchSpace({**around, "global_pool": "avg", "stages": [stage]})
    for candidate in space.sample(40):
        first, *others = candidate.architecture.blocks()
        assert first.token_keep == 1 or "banded" not in {block.mixer for block in others}


def test_those_that_rank_tokens_do_not_need_the_grid() -> None:
    for traits in map(find, MIXERS):
        if traits.ranks_tokens:
            assert traits.layout == "tokens" and not traits.needs_grid


@pytest.mark.parametrize(
    ("mixer", "can"), [("depthwise", False), ("mbconv", True), ("pool", False)]
)
def test_only_layers_and_dense_convolutions_are_compressed(mixer: str, can: bool) -> None:
    """A choice of bits for a mixer without any would make two candidates of one network."""
    assert in_use("mixer_weight_bits", mixer, True, 8) == can
    assert in_use("mlp_weight_bits", "depthwise", True, 8)


def test_identity_leaves_the_stream_alone() -> None:
    """Its block is the MLP, even where layer scale and norms are no identity."""
    nothing = Block("identity", mlp_hidden=48)
    network = randomized(small(nothing, layer_scale=True))
    block, x = network.stages[0].blocks[0], torch.randn(2, 64, 24)
    assert block.mix(x).equal(x)
    assert {name.partition(".")[0] for name, _ in block.named_parameters()} == {
        *("norm2", "mlp", "ls2")
    }


def test_mixers_without_a_map_drop_tokens_at_random() -> None:
    """Only the least attended are of a map."""
    block = Block("identity", mlp_hidden=48, token_keep=0.5)
    x = torch.randn(2, 3, 32, 32)
    network = randomized(small(block, token_reduction="random"))
    assert network(x).shape == (2, 5)
    assert network.stages[0].blocks[0].mix(torch.randn(2, 64, 24)).shape == (2, 32, 24)
    with pytest.raises(SpaceError, match="cannot follow mixer 'identity', which has no attention"):
        randomized(small(block))


# The laws of all mixers, with every number and pruning.


class TestSoftmax(MixerContract):
    name = "softmax"
    fields = "{num_heads: [2, 4], head_dim: 8, mixer_prune_ratio: [0, 0.5]}"


class TestGrouped(MixerContract):
    name = "grouped"
    fields = "{num_heads: [2, 4], kv_heads: [1, 2, 4], head_dim: [4, 8]}"


class TestPooled(MixerContract):
    name = "pooled"
    fields = "{num_heads: [2, 4], head_dim: 8, kv_pool: [1, 2, 3]}"


class TestWindow(MixerContract):
    name = "window"
    fields = """{num_heads: [2, 4], head_dim: 8, value_dim: [8, 12], window_size: [3, 5, 7],
        pos_embed: relative}"""


class TestCosineWindow(MixerContract):
    name = "cosine_window"
    fields = "{num_heads: [2, 4], head_dim: 8, window_size: [3, 5], mixer_prune_ratio: [0, 0.5]}"


class TestLinear(MixerContract):
    name = "linear"
    fields = "{num_heads: [2, 4], head_dim: 8, kernel_size: [3, 5]}"


class TestTokenMlp(MixerContract):
    name = "token_mlp"
    fields = "{token_mlp_ratio: [1, 2], mixer_prune_ratio: [0, 0.25]}"


class TestTokenLinear(MixerContract):
    name = "token_linear"


class TestPool(MixerContract):
    name = "pool"


class TestPoolRaw(MixerContract):
    name = "pool_raw"


class TestPoolScaled(MixerContract):
    name = "pool_scaled"
    fields = "{res_scale: true}"


class TestStarMlp(MixerContract):
    name = "star_mlp"
    fields = "{res_scale: true, mixer_prune_ratio: [0, 0.25]}"


class TestNorm2d(MixerContract):
    name = "norm2d"


class TestIdentity(MixerContract):
    name = "identity"


class TestIdentity2d(MixerContract):
    name = "identity2d"


class TestMobileVit(MixerContract):
    name = "mobilevit"
    fields = """{kernel_size: [3, 5], unfold_size: [1, 7], inner_width: [8, 12],
        inner_heads: [2, 4], inner_layers: [1, 2]}"""


class TestMobileVit2(MixerContract):
    name = "mobilevit2"
    fields = """{kernel_size: [3, 5], unfold_size: [1, 7], inner_width: [8, 12],
        inner_layers: [1, 2]}"""


class TestLinformer(MixerContract):
    name = "linformer"
    fields = "{num_heads: [2, 4], head_dim: 8, kv_tokens: [1, 7, 49]}"


class TestPerformer(MixerContract):
    name = "performer"
    fields = "{num_heads: [2, 4], head_dim: [4, 8], num_features: [4, 12]}"


class TestBanded(MixerContract):
    name = "banded"
    fields = "{num_heads: [2, 4], head_dim: 8, band: [2, 9, 30]}"


class TestHalo(MixerContract):
    name = "halo"
    fields = """{num_heads: [2, 4], head_dim: 8, window_size: [3, 7], halo: [0, 1, 3],
        pos_embed: relative}"""


class TestFocal(MixerContract):
    name = "focal"
    fields = """{num_heads: [2, 4], head_dim: 8, window_size: [2, 3], focal_levels: [1, 2, 3],
        pos_embed: relative}"""


class TestAggregate(MixerContract):
    name = "aggregate"
    fields = """{num_heads: [2, 4], head_dim: 8, mixer_prune_ratio: [0, 0.5], window_size: [3, 4],
        global_tokens: [2, 5], pos_embed: relative}"""


class TestUnfold(MixerContract):
    name = "unfold"
    fields = "{num_heads: [2, 4], head_dim: 8, unfold_size: [1, 7]}"


class TestMultiscaleLinear(MixerContract):
    name = "multiscale_linear"
    fields = "{num_heads: [2, 4], head_dim: [4, 8], kernel_size: [3, 5]}"


class TestCascaded(MixerContract):
    name = "cascaded"
    fields = "{num_groups: [1, 2, 4], key_dim: 4, kernel_size: [3, 5], kernel_step: 2}"


class TestCascadedWindow(MixerContract):
    name = "cascaded_window"
    fields = "{num_groups: [1, 4], key_dim: 4, window_size: [3, 7], pos_embed: relative}"


class TestTalkingHeads(MixerContract):
    name = "talking_heads"
    fields = """{input_size: 32, num_heads: [2, 4], head_dim: 8, value_dim: [8, 12],
        attn_stride: [1, 2], mixer_prune_ratio: [0, 0.5]}"""


class TestMBConv(MixerContract):
    name = "mbconv"
    fields = """{kernel_size: [3, 5], mixer_prune_ratio: [0, 0.25], norm: batch,
        se_ratio: [0, 0.5, 1], act: hardswish}"""


class TestActivatedMBConv(MixerContract):
    name = "mbconv_act"
    fields = "{kernel_size: [3, 5], mixer_prune_ratio: [0, 0.25], act: relu}"


class TestBiasedMBConv(MixerContract):
    name = "mbconv_bias"
    fields = "{kernel_size: [3, 5], mixer_prune_ratio: [0, 0.25], act: hardswish}"


class TestSeparable(MixerContract):
    name = "separable"
    fields = "{kernel_size: [3, 5]}"


class TestDepthwise(MixerContract):
    name = "depthwise"
    fields = "{kernel_size: [3, 5]}"


class TestDepthwiseResidual(MixerContract):
    name = "depthwise_residual"
    fields = "{kernel_size: [3, 5]}"


class TestFusedMBConv(MixerContract):
    name = "fused_mbconv"
    fields = "{kernel_size: [3, 5], mixer_prune_ratio: [0, 0.25], norm: batch}"


class TestConvNext(MixerContract):
    name = "conv_next"
    fields = "{kernel_size: [3, 7], mixer_prune_ratio: [0, 0.25]}"


class TestConvMlp(MixerContract):
    name = "conv_mlp"
    fields = "{mixer_prune_ratio: [0, 0.25], act: relu}"


class TestLevit(MixerContract):
    name = "levit"
    fields = "{num_heads: [2, 4], head_dim: 8, value_dim: [8, 16], mixer_prune_ratio: [0, 0.5]}"


class TestNormedMlp(MixerContract):
    name = "normed_mlp"
    fields = "{mixer_prune_ratio: [0, 0.25]}"


def test_every_mixer_has_its_laws() -> None:
    assert {law.name for law in MixerContract.__subclasses__()} == set(MIXERS)


@pytest.mark.parametrize("law", MixerContract.__subclasses__(), ids=lambda law: law.name)
def test_a_worker_is_sent_the_same_network(law: type[MixerContract]) -> None:
    """With the rules by which smaller ones are cut from it."""
    for candidate in law.candidates()[:3]:
        network = randomized(candidate.architecture)
        sent, x = pickle.loads(pickle.dumps(network)), images(candidate)
        assert sent(x).equal(network(x))
        for name, (rule, shape) in shared_of(sent).items():
            source = torch.randn(rule.shape) + torch.arange(rule.shape[-1])
            old, _ = shared_of(network)[name]
            assert rule.cut(source, shape).equal(old.cut(source, shape))


def test_numbers_mean_one_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mixer", "numbers", "_width", "3x3"):
        with pytest.raises(ValueError, match="needs another name"):
            Number(name)
    other = replace(find("linear"), numbers=(Number("kernel_size", 5),))
    monkeypatch.setattr(mixers, "find", lambda name: other if name == "mbconv" else find(name))
    mixers.numbers.cache_clear()
    with pytest.raises(ConfigError, match="mixer 'mbconv': its number 'kernel_size' is not that"):
        mixers.numbers()
