"""With the settings and weights of networks of several stages, ours give their logits."""

from collections.abc import Callable
from functools import partial
from itertools import chain

import pytest
import timm
import torch
import transformers
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn

from vitpareto.cost_models import workload
from vitpareto.spaces import Architecture, Candidate, SpaceError
from vitpareto.spaces.convert import from_model, from_timm
from vitpareto.spaces.convert.contract import ConverterContract, macs_of, with_noise
from vitpareto.spaces.places import places

from ..shared import (
    lively,
    slim_efficientformer,
    slim_efficientvit,
    slim_efficientvit_msra,
    slim_levit,
    slim_mobilevit,
    slim_poolformer,
)
from .helpers import difference, images, makes, run_onnx, to_onnx


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
        for model, network in self.converted():
            own = macs_of(network, network) + keys_summed(network.architecture)
            assert own == macs_of(model, network)


KERNELS = {"window_size": (4, 2, 1), "kernels": (7, 5, 3, 3)}


class TestEfficientVitMsra(ConverterContract):
    """Windows that cover the grids, and others that are filled."""

    models = (
        lambda: slim_efficientvit_msra(num_classes=7, depth=(1, 1, 2)),
        lambda: slim_efficientvit_msra(num_classes=0, in_chans=1, img_size=80, **KERNELS),
    )
