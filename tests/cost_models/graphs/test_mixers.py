"""What the product's own mixers cost, by the laws that plugins are held to."""

from dataclasses import replace

import pytest

from vitpareto.cost_models.graphs.contract import MixerCostContract
from vitpareto.cost_models.graphs.modules import locate
from vitpareto.cost_models.measure.capabilities import examples
from vitpareto.cost_models.units.sub_block import SubBlock
from vitpareto.cost_models.units.unit import unit_of
from vitpareto.spaces import Architecture, Block, Candidate, Place, Policy, Stage, mixers
from vitpareto.spaces.mixers import MIXERS, find
from vitpareto.spaces.ops import Op

pytestmark = pytest.mark.onnx


class TestSoftmax(MixerCostContract):
    name = "softmax"
    fields = "{num_heads: [2, 4], head_dim: 8, layer_scale: true}"


class TestGrouped(MixerCostContract):
    name = "grouped"
    fields = "{num_heads: [2, 4], kv_heads: [1, 2, 4], head_dim: 8}"


class TestPooled(MixerCostContract):
    name = "pooled"
    fields = "{num_heads: [2, 4], head_dim: 8, kv_pool: [1, 2, 3]}"


class TestWindow(MixerCostContract):
    name = "window"
    fields = """{num_heads: [2, 4], head_dim: 8, value_dim: [8, 12], window_size: [3, 5, 7],
        pos_embed: none}"""


class TestCosineWindow(MixerCostContract):
    name = "cosine_window"
    fields = "{num_heads: [2, 4], head_dim: 8, window_size: [3, 7], post_norm: true}"


class TestLinear(MixerCostContract):
    name = "linear"
    fields = "{num_heads: [2, 4], head_dim: 8, kernel_size: [3, 5], norm: batch}"


class TestTokenMlp(MixerCostContract):
    name = "token_mlp"
    fields = "{token_mlp_ratio: [1, 2], layer_scale: true}"


class TestTokenLinear(MixerCostContract):
    name = "token_linear"
    fields = "{norm: [affine, layer], layer_scale: true}"


class TestPool(MixerCostContract):
    name = "pool"
    fields = "{layer_scale: true}"


class TestPoolRaw(MixerCostContract):
    name = "pool_raw"
    fields = "{layer_scale: true}"


class TestPoolScaled(MixerCostContract):
    name = "pool_scaled"
    fields = "{res_scale: true}"


class TestStarMlp(MixerCostContract):
    name = "star_mlp"
    fields = "{res_scale: true, norm: [batch, layer]}"


class TestNorm2d(MixerCostContract):
    name = "norm2d"


class TestIdentity(MixerCostContract):
    name = "identity"
    fields = "{layer_scale: true}"


class TestIdentity2d(MixerCostContract):
    name = "identity2d"
    fields = "{layer_scale: true}"


class TestMobileVit(MixerCostContract):
    name = "mobilevit"
    fields = """{kernel_size: [3, 5], unfold_size: [1, 7], inner_width: [8, 12], inner_heads: 2,
        inner_layers: [1, 2]}"""


class TestMobileVit2(MixerCostContract):
    name = "mobilevit2"
    fields = """{kernel_size: [3, 5], unfold_size: [1, 7], inner_width: [8, 12],
        inner_layers: [1, 2]}"""


class TestLinformer(MixerCostContract):
    name = "linformer"
    fields = "{num_heads: [2, 4], head_dim: 8, kv_tokens: [7, 49]}"


class TestPerformer(MixerCostContract):
    name = "performer"
    fields = "{num_heads: [2, 4], head_dim: [4, 8], num_features: [4, 12], norm: batch}"


class TestBanded(MixerCostContract):
    name = "banded"
    fields = "{num_heads: [2, 4], head_dim: 8, band: [2, 9, 30]}"


class TestHalo(MixerCostContract):
    name = "halo"
    fields = """{num_heads: [2, 4], head_dim: 8, window_size: [3, 7], halo: [0, 1, 3],
        pos_embed: relative}"""


class TestFocal(MixerCostContract):
    name = "focal"
    fields = (
        "{num_heads: [2, 4], head_dim: 8, window_size: [2, 3], focal_levels: [1, 3], norm: batch}"
    )


class TestAggregate(MixerCostContract):
    name = "aggregate"
    fields = """{num_heads: [2, 4], head_dim: 8, window_size: [3, 4], global_tokens: [2, 5],
        pos_embed: relative}"""


class TestUnfold(MixerCostContract):
    name = "unfold"
    fields = "{num_heads: [2, 4], head_dim: 8, unfold_size: [1, 7], norm: batch}"


class TestMultiscaleLinear(MixerCostContract):
    name = "multiscale_linear"
    fields = "{num_heads: [2, 4], head_dim: 8, kernel_size: [3, 5], norm: [batch, layer]}"


class TestCascaded(MixerCostContract):
    name = "cascaded"
    fields = "{num_groups: [1, 2, 4], key_dim: 4, kernel_size: [3, 5], layer_scale: true}"


class TestTalkingHeads(MixerCostContract):
    name = "talking_heads"
    fields = """{input_size: 32, num_heads: [2, 4], head_dim: 8, value_dim: [8, 12],
        attn_stride: [1, 2], layer_scale: true}"""


class TestCascadedWindow(MixerCostContract):
    name = "cascaded_window"
    fields = """{num_groups: 2, key_dim: 4, window_size: [3, 7], pos_embed: relative,
        layer_scale: true}"""


class TestMBConv(MixerCostContract):
    name = "mbconv"
    fields = """{kernel_size: [3, 5], se_ratio: [0, 0.5], norm: [batch, layer], layer_scale: true,
        act: hardswish}"""


class TestActivatedMBConv(MixerCostContract):
    name = "mbconv_act"
    fields = "{kernel_size: [3, 5], act: relu}"


class TestDepthwise(MixerCostContract):
    name = "depthwise"
    fields = "{kernel_size: [3, 5], norm: [batch, layer], layer_scale: true}"


class TestBiasedMBConv(MixerCostContract):
    name = "mbconv_bias"
    fields = "{norm: [batch, layer], layer_scale: true}"


class TestSeparable(MixerCostContract):
    name = "separable"
    fields = "{layer_scale: true}"


class TestDepthwiseResidual(MixerCostContract):
    name = "depthwise_residual"
    fields = "{layer_scale: true}"


class TestFusedMBConv(MixerCostContract):
    name = "fused_mbconv"
    fields = "{kernel_size: [3, 5], norm: [batch, layer], layer_scale: true}"


class TestConvNext(MixerCostContract):
    name = "conv_next"
    fields = "{kernel_size: [3, 7], norm: [batch, layer], layer_scale: true}"


class TestConvMlp(MixerCostContract):
    name = "conv_mlp"
    fields = "{norm: [batch, layer], layer_scale: true}"


class TestLevit(MixerCostContract):
    name = "levit"
    fields = "{num_heads: [2, 4], head_dim: 8, value_dim: [8, 16], layer_scale: true}"


class TestNormedMlp(MixerCostContract):
    name = "normed_mlp"
    fields = "{norm: [batch, layer], layer_scale: true}"


def test_every_mixer_has_its_laws() -> None:
    assert {law.name for law in MixerCostContract.__subclasses__()} == set(MIXERS)


@pytest.fixture
def other_mlp(monkeypatch: pytest.MonkeyPatch) -> str:
    """A second mixer that is an MLP too, under a name that nothing knows."""
    real = mixers.MIXERS.find
    spec = find("mbconv")
    monkeypatch.setattr(
        mixers.MIXERS, "find", lambda name: spec if name == "other_mlp" else real(name)
    )
    yield "other_mlp"
    find.cache_clear()


def test_no_mlp_follows_any_mixer_that_is_one(other_mlp: str) -> None:
    blocks = tuple(
        Block(mixer, mlp_hidden=32, kernel_size=3, num_heads=2, head_dim=8)
        for mixer in (other_mlp, "softmax", "mbconv")
    )
    stages = (Stage(16, blocks),)
    architecture = Architecture(stages, 32, patch_size=4, num_classes=5, global_pool="avg")
    found = locate(Candidate.uncompressed(architecture))
    assert [path.rpartition("blocks.")[2] for path in list(found)[1:-1]] == [
        *("0.other_mlp", "1.attn", "1.mlp", "2.mbconv")
    ]
    kinds = [unit.kind for unit in found.values()]
    assert kinds == ["stem", "mixer", "mixer", "mlp", "mixer", "head"]


def test_strange_operations_have_a_term(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = [Op("scan", macs=3_000_000, reads=10, writes=10), Op("gather", reads=5, writes=5)]
    spec = replace(find("pool"), ops=lambda _: strange)
    monkeypatch.setattr("vitpareto.cost_models.units.operations.find", lambda _: spec)
    place = Place(Block("pool"), 16, (8, 8), 0, 64, 64)
    unit = unit_of(SubBlock("mixer", place, Policy(), "layer", "pool"), "float")
    assert unit.terms["scan_macs"] == 3
    assert unit.terms["scan_elements"] == pytest.approx(20e-6)
    assert unit.terms["gather"] == pytest.approx(10e-6)


def test_devices_measure_every_mixer_with_weights() -> None:
    found = examples()
    assert {name for name, block in found.items() if block.kind == "mixer"} == {
        name for name in MIXERS if find(name).has_weights
    }
    assert found["window"].key == (
        "mixer/window?norm=layer&act=gelu&width=192&grid=14&num_heads=3&head_dim=64&window_size=7"
    )
