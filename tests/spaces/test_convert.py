"""With timm's settings and weights, our networks give timm's logits."""

from collections.abc import Callable
from functools import partial
from itertools import chain

import pytest
import timm
import torch
import torchvision
import transformers
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.vision_transformer import ResPostBlock
from torch import nn

from vitpareto.cost_models import workload
from vitpareto.spaces import Architecture, Candidate, SearchSpace, SpaceError
from vitpareto.spaces.convert import CONVERTERS, answer_of, from_model, from_timm
from vitpareto.spaces.convert.contract import ConverterContract, macs_of, with_noise
from vitpareto.spaces.places import places
from vitpareto.spaces.supernet import Supernet

from ..shared import (
    lively,
    slim_efficientformer,
    slim_efficientvit,
    slim_efficientvit_msra,
    slim_levit,
    slim_mobilevit,
    slim_poolformer,
)
from .helpers import difference, images, run_onnx, to_onnx


def makes(name: str, **settings: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, **settings)


SMALL = {"depth": 2, "num_classes": 7}
VARIANT = {"init_values": 0.5, "global_pool": "avg", "fc_norm": False, "class_token": False}


class TestVisionTransformer(ConverterContract):
    models = (
        makes("deit_tiny_distilled_patch16_224", img_size=48, **SMALL),
        makes("vit_small_patch32_224", img_size=64, **SMALL),
        makes("vit_tiny_patch16_224", in_chans=1, img_size=48, **VARIANT, **SMALL),
    )


# Models of VisionTransformer and Eva that people start from, with all their parts, but slim, less
# deep and on small images.
SLIM = {"depth": 2, "embed_dim": 96, "num_heads": 3}
FAMILY = {
    "deit3_small_patch16_224": {"img_size": 32},
    "vit_small_patch14_dinov2": {"img_size": 28, "num_classes": 0},
    "vit_small_patch14_reg4_dinov2": {"img_size": 28, "num_classes": 0},
    "vit_base_patch16_siglip_224": {"img_size": 32, "num_classes": 0},
    "vit_base_patch16_clip_224": {"img_size": 32},
    "vit_base_patch16_clip_quickgelu_224": {"img_size": 32},
    "flexivit_small": {"img_size": 48},
    "vit_medium_patch16_gap_256": {"img_size": 32},
    "vit_little_patch16_reg4_gap_256": {"img_size": 32},
    "vit_wee_patch16_reg1_gap_256": {"img_size": 32},
    "eva02_tiny_patch14_224": {"img_size": 42, "num_classes": 0},
    "vit_pe_core_tiny_patch16_384": {"img_size": 48, "num_classes": 5},
    "vit_small_patch16_dinov3": {"img_size": 48, "num_classes": 0},
    # Further parts of the vocabulary.
    "eva02_base_patch16_clip_224": {"img_size": 48},  # norms inside attention and MLP
    "beit3_base_patch16_224": {"img_size": 32},
    "vit_giant_patch14_dinov2": {"img_size": 28, "num_classes": 0},
    "vit_huge_plus_patch16_dinov3": {"img_size": 32, "num_classes": 0},
    "vit_so150m_patch16_reg4_map_256": {"img_size": 32},
    "vit_pe_spatial_tiny_patch16_512": {"img_size": 48, "num_classes": 0},  # no last norm
    "vit_small_patch16_rope_224": {"img_size": 48},
    "aimv2_large_patch14_224": {"img_size": 28},  # RMS norms, no biases
}


@pytest.mark.parametrize("name", FAMILY)
def test_family(name: str) -> None:
    model = with_noise(timm.create_model(name, pretrained=False, **{**SLIM, **FAMILY[name]}).eval())
    network = from_model(model)
    x = images(network.architecture, seed=3)
    with torch.no_grad():
        expected = model(x)
        assert difference(network(x), expected) < 1e-4 * expected.abs().max()
    counted = [sum(p.numel() for p in m.parameters()) for m in (model, network)]
    assert counted[0] == counted[1] == workload(Candidate.uncompressed(network.architecture)).params


class TestOptions(ConverterContract):
    """Options that change the computation and not the names of parameters."""

    models = tuple(
        makes("vit_tiny_patch16_224", **options, **SMALL, img_size=32)
        for options in (
            {"global_pool": "avg"},
            {"global_pool": "avg", "pool_include_prefix": True},
            {"qk_norm": True, "qkv_bias": False, "reg_tokens": 2},
            {"norm_layer": "rmsnorm", "pre_norm": True},
            {"scale_attn_norm": True, "scale_mlp_norm": True, "act_layer": "gelu_tanh"},
            {"act_layer": "relu", "final_norm": False},
            {"global_pool": "map", "reg_tokens": 1},
            {"dynamic_img_size": True},
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_whole_models(name: str) -> None:
    """At the size and depth that they have, all blocks of them."""
    model = with_noise(timm.create_model(name, pretrained=False).eval())
    network = from_timm(model)
    x = images(network.architecture, 1, seed=3)
    with torch.no_grad():
        expected = model(x)
        assert difference(network(x), expected) < 1e-4 * expected.abs().max()


WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SEEN = {"image_size": 32, "patch_size": 8, "num_labels": 3}
HIDDEN = {"intermediate_size": 48}


def of_transformers(model: str, config: str, **settings: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        settled = getattr(transformers, config)(**WIDE, **SEEN, **settings)
        return getattr(transformers, model)(settled)

    return make


class TestTransformers(ConverterContract):
    unused = ("mask_token", "pooler.dense.weight", "pooler.dense.bias")
    models = (
        of_transformers("ViTForImageClassification", "ViTConfig", **HIDDEN),
        of_transformers("ViTModel", "ViTConfig", hidden_act="gelu_pytorch_tanh", **HIDDEN),
        of_transformers("DeiTForImageClassification", "DeiTConfig", **HIDDEN),
        of_transformers("DeiTForImageClassificationWithTeacher", "DeiTConfig", **HIDDEN),
        of_transformers("DeiTModel", "DeiTConfig", **HIDDEN),
        of_transformers("Dinov2ForImageClassification", "Dinov2Config"),
        of_transformers("Dinov2Model", "Dinov2Config", use_swiglu_ffn=True),
        of_transformers("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=4, **HIDDEN),
        of_transformers(
            *("DINOv3ViTModel", "DINOv3ViTConfig"),
            **{"num_register_tokens": 2, "use_gated_mlp": True, "hidden_act": "silu", **HIDDEN},
        ),
    )


REGISTERED = ("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersModel")


@pytest.mark.parametrize("kind", REGISTERED)
def test_registers_that_come_after_positions(kind: str) -> None:
    """The position of the class token is added to it, which leaves one parameter vector fewer."""
    model = with_noise(of_transformers(kind, "Dinov2WithRegistersConfig")().eval())
    network = from_model(model)
    x = images(network.architecture, seed=2)
    with torch.no_grad():
        assert difference(network(x), answer_of(model(x))) < 1e-4
    assert network.architecture.registers == 4


def swin_of_transformers(model: str, **settings: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        small = {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 3]}
        small |= {"num_heads": [3, 6], "window_size": 4, "num_labels": 3, **settings}
        return getattr(transformers, model)(transformers.SwinConfig(**small))

    return make


class TestTransformersSwin(ConverterContract):
    """Windows that cover the grid, that do not divide it, and shifted ones."""

    unused = ("mask_token",)
    models = (
        swin_of_transformers("SwinForImageClassification"),
        swin_of_transformers("SwinForImageClassification", window_size=8, mlp_ratio=2.0),
        swin_of_transformers("SwinForImageClassification", window_size=5, num_channels=1),
        swin_of_transformers("SwinForImageClassification", hidden_act="gelu_new", depths=[1]),
        swin_of_transformers("SwinModel", depths=[2, 2, 1], num_heads=[1, 2, 3]),
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_absolute_embeddings": True}, "no counterpart: embeddings.position_embeddings"),
        ({"qkv_bias": False}, r"no counterpart: .*attn\.[kqv]\.bias"),
        ({"image_size": (32, 24)}, "images must be square, got 32x24"),
        ({"layer_norm_eps": 0.1}, "its logits would change by"),  # not that of all its norms
    ],
)
def test_what_swin_lacks_here(settings: dict[str, object], reason: str) -> None:
    model = swin_of_transformers("SwinForImageClassification", **settings)()
    with pytest.raises(SpaceError, match=reason):
        from_model(with_noise(model))


class TestTorchvision(ConverterContract):
    models = (lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 48, num_classes=5),)


def slim_mixer(**settings: object) -> Callable[[], nn.Module]:
    """timm's MlpMixer, whose own functions make no slim ones."""
    return lambda: MlpMixer(img_size=64, num_blocks=2, embed_dim=48, **settings)


class TestMlpMixer(ConverterContract):
    models = (
        slim_mixer(num_classes=7),
        slim_mixer(mlp_ratio=4, block_layer=ResBlock, norm_layer=Affine),
    )


class TestSwin(ConverterContract):
    models = (makes("swin_tiny_patch4_window7_224", depths=(2, 1, 2, 1), embed_dim=24),)


def swin_v2(**settings: object) -> nn.Module:
    """One whose norms and biases of positions are not 0, as they are when it is made."""
    small = {"depths": (1, 3), "embed_dim": 24, "num_heads": (2, 3), "img_size": 32} | settings
    model = timm.create_model("swinv2_tiny_window8_256", **{"window_size": 4, **small})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "cpb_mlp" in name:
                parameter.mul_(10).add_("norm" in name)
    return model


class TestSwinV2(ConverterContract):
    """Windows that are shifted, that do not divide the grid, and as large as it is."""

    models = (
        lambda: swin_v2(num_classes=7),
        lambda: swin_v2(window_size=5, depths=(1, 1), in_chans=1, mlp_ratio=2.0),
        lambda: swin_v2(window_size=8, qkv_bias=False, num_classes=0),
    )


def tiny_vit(**settings: object) -> nn.Module:
    """One with statistics of its own, on images of 64 pixels."""
    small = {"embed_dims": (16, 16, 24), "depths": (1, 2, 1), "num_heads": (1, 2, 3)}
    small |= {"window_sizes": (4, 4, 4)} | settings
    model = timm.create_model("tiny_vit_5m_224", **small)
    model.default_cfg = {"input_size": (model.in_chans, 64, 64)}
    return lively(model)


class TestTinyVit(ConverterContract):
    models = (
        lambda: tiny_vit(num_classes=7),
        lambda: tiny_vit(in_chans=1, num_classes=0, mlp_ratio=2.0, local_conv_size=5),
    )


class TestConvNext(ConverterContract):
    """Layers as linear ones and as convolutions, with the last norm after pooling and before."""

    models = (
        makes("convnext_atto", depths=(1, 1, 2, 1), dims=(16, 24, 32, 40)),
        makes("convnext_tiny", depths=(1, 1, 1, 1), dims=(16, 24, 32, 40), num_classes=0),
        makes(
            *("convnext_nano",),
            depths=(1, 1, 1, 1),
            dims=(8, 8, 16, 16),
            head_norm_first=True,
            kernel_sizes=(7, 5, 5, 3),
            ls_init_value=None,
            act_layer="silu",
            in_chans=1,
        ),
    )


class TestMetaFormer(ConverterContract):
    models = (
        lambda: slim_poolformer(num_classes=7),
        lambda: slim_poolformer(num_classes=0, in_chans=1, layer_scale_init_values=None),
        lambda: slim_poolformer(2, num_classes=7),
    )


class TestEfficientFormer(ConverterContract):
    """Batch norms take in the biases before them."""

    unused = (
        "downsample.conv.bias",
        *(f"stem.conv{n}.bias" for n in (1, 2)),
        *(f"stages.{i}.blocks.0.mlp.fc{n}.bias" for i in range(4) for n in (1, 2)),
    )
    models = (
        lambda: slim_efficientformer(num_classes=7),
        lambda: slim_efficientformer(
            **{"num_vit": 2, "act_layer": nn.SiLU, "mlp_ratios": 2},
            **{"num_classes": 0, "in_chans": 1},
        ),
    )


def efficientformer_v2(**settings: object) -> nn.Module:
    """One on images of 64 pixels, whose grids are of 16, 8, 4 and 2 tokens a side."""
    small = {"embed_dims": (16, 16, 24, 32), "depths": (1, 1, 2, 2), "mlp_ratios": 2.0}
    small |= {"num_vit": 1, "img_size": 64} | settings
    model = timm.create_model("efficientformerv2_s0", **small)
    model.default_cfg = {"input_size": (model.in_chans, 64, 64)}
    return lively(model)


class TestEfficientFormerV2(ConverterContract):
    unused = ("conv.bias", "local.bias")
    models = (
        lambda: efficientformer_v2(num_classes=7),
        lambda: efficientformer_v2(
            **{"distillation": False, "layer_scale_init_value": None, "act_layer": "relu"},
            **{"num_vit": 2, "num_classes": 3, "in_chans": 1},
        ),
    )


class TestLevit(ConverterContract):
    """Layers as linear ones and as convolutions, with two heads, one and none."""

    models = (
        lambda: slim_levit(num_classes=7),
        lambda: slim_levit("levit_conv_128", distilled=False, attn_ratio=1, num_classes=7),
        lambda: slim_levit(num_classes=0, in_chans=1, act_layer="silu", mlp_ratio=1),
    )


def whole_levit(name: str) -> nn.Module:
    """One of the sizes that it has."""
    own = timm.models.levit.model_cfgs[name.replace("_conv", "")]
    return slim_levit(name, img_size=224, stem_type="s16", **own)


def whole_efficientvit(size: str) -> Callable[[], nn.Module]:
    """One whose statistics and biases are not as it is made."""
    return lambda: with_noise(lively(timm.create_model(f"efficientvit_{size}")))


WHOLE = {
    **{n: partial(whole_levit, n) for n in ("levit_128", "levit_conv_128", "levit_384")},
    "poolformerv2_s12": makes("poolformerv2_s12"),
    "mobilenetv3_large_100": makes("mobilenetv3_large_100"),
    **{n: whole_efficientvit(n) for n in ("b0", "b1", "m0", "m1", "m5")},
}


@pytest.mark.slow
@pytest.mark.onnx
@pytest.mark.parametrize("name", WHOLE)
def test_whole_hierarchies(name: str) -> None:
    """At their own size, in ONNX Runtime, too."""
    model = WHOLE[name]().eval()
    network = from_timm(model)
    candidate = Candidate.uncompressed(network.architecture)
    assert workload(candidate).params == sum(p.numel() for p in model.parameters())
    macs = workload(candidate).macs + keys_summed(network.architecture)
    assert macs == macs_of(model, network)
    x = images(candidate, 1)
    logits, _ = run_onnx(to_onnx(network, x), x)
    with torch.no_grad():
        expected = model(x)
    assert difference(logits, expected) < 1e-4 * expected.abs().max()


class TestMobileVit(ConverterContract):
    models = (
        lambda: slim_mobilevit(num_classes=7),
        lambda: slim_mobilevit(16, num_classes=0),
        lambda: slim_mobilevit(version=2, num_classes=7, in_chans=1),
    )


def for_small_images(name: str, **settings: object) -> Callable[[], nn.Module]:
    """A model of convolutions, which takes images of every size, for those of 64 pixels."""

    def make() -> nn.Module:
        model = timm.create_model(name, pretrained=False, **settings)
        model.default_cfg = {"input_size": (settings.get("in_chans", 3), 64, 64)}
        return model

    return make


def slim_mobilenet(**settings: object) -> nn.Module:
    """A MobileNetV3 that begins as the large one, with a residual around what expands nothing."""
    blocks = decode_arch_def([["ds_r1_k3_s1_e1_c16_nre"], ["ir_r1_k3_s2_e2_c24"]])
    model = MobileNetV3(blocks, num_features=32, act_layer=nn.Hardswish, **settings)
    model.default_cfg = {"input_size": (3, 32, 32)}
    return model


class TestMobileNets(ConverterContract):
    models = (
        for_small_images("mobilenetv3_small_100", num_classes=7),
        for_small_images("mobilenetv3_small_050", num_classes=0, in_chans=1),
        for_small_images("mobilenetv2_035", num_classes=7),
        lambda: slim_mobilenet(num_classes=2),
    )


def keys_summed(a: Architecture) -> int:
    """Products with ones by which timm sums the keys of multi-scale attention, as we do not."""
    return sum(
        2 * place.tokens * place.block.num_heads * place.block.head_dim
        for place in chain.from_iterable(places(a))
        if place.block.mixer == "multiscale_linear"
    )


class TestEfficientVit(ConverterContract):
    """With blocks of all kinds, and without expansion."""

    models = (
        lambda: slim_efficientvit(num_classes=7),
        lambda: slim_efficientvit(num_classes=0, in_chans=1, expand_ratio=1),
    )

    def test_work_is_the_same(self) -> None:
        """But for sums that are products there."""
        for make in self.models:
            model = make().eval()
            network = from_model(model)
            own = macs_of(network, network) + keys_summed(network.architecture)
            assert own == macs_of(model, network)


KERNELS = {"window_size": (4, 2, 1), "kernels": (7, 5, 3, 3)}


class TestEfficientVitMsra(ConverterContract):
    """Windows that cover the grids, and others that are filled."""

    models = (
        lambda: slim_efficientvit_msra(num_classes=7, depth=(1, 1, 2)),
        lambda: slim_efficientvit_msra(num_classes=0, in_chans=1, img_size=80, **KERNELS),
    )


def test_every_converter_is_tested() -> None:
    tested = (TestVisionTransformer, TestMlpMixer, TestSwin, TestConvNext, TestTorchvision)
    tested += (TestMetaFormer, TestSwinV2, TestTinyVit, TestMobileNets, TestMobileVit)
    tested += (TestTransformers, TestTransformersSwin, TestEfficientFormer)
    tested += (TestEfficientFormerV2, TestLevit, TestEfficientVit, TestEfficientVitMsra)
    kinds = {*REGISTERED, "Eva"} | {
        kind.__name__ for t in tested for make in t.models for kind in type(make()).__mro__
    }
    assert {name.partition(".")[2] for name in CONVERTERS} <= kinds


ONE = {"depth": 1}


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("vit_tiny_patch16_224", {"global_pool": "max"}, "pools by 'max'; what converts pools by"),
        ("vit_tiny_patch16_224", {"global_pool": "prr"}, "pools by 'prr'"),
        ("vit_tiny_patch16_224", {"attn_layer": "diff"}, "a variant that the voc|no counterpart"),
        ("vit_tiny_patch16_224", {"img_size": (224, 192)}, "images must be square, got 224x192"),
        ("vit_small_patch16_rope_mixed_224", {}, "no counterpart for positions by RotaryEmb"),
        ("eva02_tiny_patch14_224", {"use_post_norm": True}, "its logits would change by"),
        ("vit_tiny_patch16_224", {"norm_layer": "simplenorm"}, "only LayerNorm and RmsNorm"),
        ("vit_tiny_patch16_224", {"block_fn": ResPostBlock}, "its logits would change by"),
    ],
)
def test_transformers_without_a_counterpart_are_refused(
    name: str, settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(SpaceError, match=reason):
        from_timm(timm.create_model(name, pretrained=False, **ONE, **settings))


def test_logits_that_prove_nothing_are_refused() -> None:
    with pytest.raises(SpaceError, match="all logits are 0, which proves nothing"):
        from_timm(slim_mixer()())


LARGER = {"pretrained_cfg_overlay": {"input_size": (3, 256, 256)}}


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("resnet18", {}, "no converter for timm.ResNet; there are some for timm"),
        ("samvit_base_patch16", ONE, "there are some for timm.VisionTransformer, timm"),
        ("gmixer_12_224", {}, "have no counterpart: stages.0.blocks.0.mlp.fc2.weight"),
        ("gmlp_ti16_224", {}, "only those with MixerBlock or ResBlock"),
        ("convnextv2_atto", {}, r"no counterpart: stages\.\d\.blocks\.\d\..*grn"),
        ("convnext_tiny", {"stem_type": "overlap"}, "a stem of overlapping convolutions"),
        ("convnext_atto", {"global_pool": "max"}, "the model pools by 'max', not by 'avg'"),
        ("convformer_s18", {}, "only PoolFormer converts, not SepConv"),
        ("poolformer_s12", {"global_pool": "max"}, "no average and one layer"),
        ("swinv2_tiny_window8_256", {"window_size": 6, "depths": (2,)}, "of 6 do not divide"),
        ("swinv2_tiny_window8_256", {"pretrained_window_sizes": (6,) * 4}, "of windows of 6"),
        ("efficientformer_l1", {"pool_size": 5}, "pooling must be over 3x3 tokens, got 5"),
        ("efficientformer_l1", {"global_pool": ""}, "the model pools by '', not by 'avg'"),
        ("efficientformer_l1", {"downsamples": (True,) * 4}, "but the first must halve the grid"),
        ("efficientformer_l1", LARGER, "of 49 offsets are not those of the grid of 8x8"),
        ("efficientformerv2_s0", {"norm_eps": 0.1}, "must have an epsilon of 1e-05, got 0.1"),
        ("efficientnet_b0", {}, "squeeze-and-excitation must have ReLU and a hard sigmoid"),
        ("resnext26ts", {}, "of timm's ByobNets only MobileViT converts"),
        ("repvgg_a0", {}, "only MobileViT converts, not RepVggBlock"),
        ("mobilevit_xxs", {"global_pool": "max"}, "pools by 'max', not by 'avg'"),
        ("levit_128", {"global_pool": ""}, "the model pools by '', not by 'avg'"),
        ("levit_128s", {"attn_act_layer": "silu"}, "must be the same, got hardswish, silu"),
        ("efficientnet_es", {}, "no counterpart for EdgeResidual"),
        ("efficientvit_b0", {"global_pool": "max"}, "pools by 'max', not by 'avg'"),
        ("efficientvit_m0", {"global_pool": "max"}, "pools by 'max', not by 'avg'"),
        ("efficientvit_m1", {"kernels": (5, 7, 3)}, r"heads with kernels of \[5, 7\]"),
        ("mobilenetv4_conv_small_035", {}, "no counterpart for a head with a norm"),
        ("tf_mobilenetv3_small_100", {}, "an epsilon of 1e-05, got 0.001"),
        ("mobilenetv3_small_050", {"global_pool": "max"}, "pools by 'max', not by 'avg'"),
    ],
)
def test_parts_without_a_counterpart_are_refused(
    name: str, settings: dict[str, object], reason: str
) -> None:
    """Without weights, which take long to draw and are not read."""
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False, **settings)
    with pytest.raises(SpaceError, match=reason):
        from_timm(model)


UNKNOWN = {"efficientvit_l1": "fused MBConv that halves the grid"}


@pytest.mark.parametrize("name", UNKNOWN)
def test_known_families_that_do_not_convert_say_what_they_need(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    with pytest.raises(SpaceError, match=rf"does not convert: the vocabulary .*{UNKNOWN[name]}"):
        from_model(model)


def test_what_would_say_something_else_is_refused() -> None:
    """Nothing in its settings and shapes tells that one norm is another one."""
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    model.blocks[0].norm2.eps = 0.1
    with pytest.raises(SpaceError, match=r"its logits would change by \d+\.\d%"):
        from_timm(with_noise(model))


def test_half_precision_is_refused() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1).half()
    with pytest.raises(SpaceError, match=r"weights must be float32, got torch\.float16"):
        from_timm(model)


DEIT = """
input_size: 64
patch_size: [16, 32]
num_classes: 7
global_pool: token
stages:
  - depth: {low: 2, high: 3}
    width: [32, 48]
    num_heads: 3
    head_dim: 16
    kv_heads: 1
    mlp_ratio: 4.0
    blocks:
      mixer: [softmax, grouped, linear]
      mixer_prune_ratio: [0.0, 0.33]
      mlp_prune_ratio: [0.0, 0.25]
"""


def test_supernet_of_a_timm_model_contains_it() -> None:
    """Kernels are kept for the largest patch and heads are sorted; timm's network stays in it."""
    space, slim = SearchSpace.from_text(DEIT), {"depth": 3, "embed_dim": 48, "num_heads": 3}
    made = timm.create_model("deit_tiny_patch16_224", img_size=64, num_classes=7, **slim)
    model = with_noise(made).eval()
    network = from_timm(model)
    candidate = Candidate.uncompressed(network.architecture)
    assert candidate in space
    supernet = Supernet.from_network(space, network)
    x = images(candidate)
    with torch.no_grad():
        assert difference(supernet(candidate, x), model(x)) < 1e-4
        assert difference(supernet.extract(candidate)(x), model(x)) < 1e-4
