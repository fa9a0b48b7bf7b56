"""With timm's settings and weights, our networks give timm's logits."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.models.vision_transformer import ResPostBlock
from torch import nn

from vitpareto.spaces import Candidate, SearchSpace, SpaceError
from vitpareto.spaces.convert import CONVERTERS, from_timm
from vitpareto.spaces.convert.contract import ConverterContract, with_noise
from vitpareto.spaces.supernet import Supernet

from .helpers import difference, images


def makes(name: str, **settings: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, **settings)


SMALL = {"depth": 2, "num_classes": 7}
VARIANT = {"init_values": 0.5, "global_pool": "avg", "fc_norm": False, "class_token": False}


class TestVisionTransformer(ConverterContract):
    models = (
        makes("vit_tiny_patch16_224"),
        makes("deit_tiny_distilled_patch16_224", **SMALL),
        makes("vit_small_patch32_224", **SMALL),
        makes("vit_tiny_patch16_224", in_chans=1, img_size=96, **VARIANT, **SMALL),
    )


class TestMlpMixer(ConverterContract):
    models = (makes("mixer_s32_224"),)


class TestSwin(ConverterContract):
    models = (makes("swin_tiny_patch4_window7_224", depths=(2, 1, 2, 1)),)


def test_every_converter_is_tested() -> None:
    tested = (TestVisionTransformer, TestMlpMixer, TestSwin)
    kinds = {kind.__name__ for t in tested for make in t.models for kind in type(make()).__mro__}
    assert {name.partition(".")[2] for name in CONVERTERS} <= kinds


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        (
            "resnet18",
            {},
            "no converter for timm.ResNet; there are some for timm",
        ),
        ("vit_tiny_patch16_224", {"qk_norm": True}, "query-key norm"),
        ("vit_tiny_patch16_224", {"reg_tokens": 4}, "register tokens"),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, "a norm after pooling"),
        ("vit_tiny_patch16_224", {"pre_norm": True}, "a norm before the blocks"),
        ("gmixer_12_224", {}, "have no counterpart: stages.0.blocks.0.mlp.fc2.weight"),
        ("resmlp_12_224", {}, "only those with MixerBlock"),
        ("vit_tiny_patch16_224", {"norm_layer": "rmsnorm"}, "LayerNorm"),
        ("vit_tiny_patch16_224", {"block_fn": ResPostBlock}, "a variant that the voc.*no attr"),
        ("mixer_s32_224", {}, "all logits are 0, which proves nothing"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    name: str, settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(SpaceError, match=reason):
        from_timm(timm.create_model(name, pretrained=False, **settings))


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


def test_supernet_of_a_timm_model_contains_it() -> None:
    """Kernels are kept for the largest patch and heads are sorted; timm's network stays in it."""
    space = SearchSpace.from_yaml("deit_tiny")
    model = with_noise(timm.create_model("deit_tiny_patch16_224")).eval()
    network = from_timm(model)
    candidate = Candidate.uncompressed(network.architecture)
    assert candidate in space
    supernet = Supernet.from_network(space, network)
    x = images(candidate)
    with torch.no_grad():
        assert difference(supernet(candidate, x), model(x)) < 1e-4
        assert difference(supernet.extract(candidate)(x), model(x)) < 1e-4
