"""With timm's settings and weights, our networks give timm's logits."""

import pytest
import timm
import torch
from torch import nn

from vitpareto.spaces import Candidate, SearchSpace, SpaceError
from vitpareto.spaces.convert.families import from_timm
from vitpareto.spaces.supernet import Supernet

from .helpers import difference, images


def timm_model(name: str, **settings: object) -> nn.Module:
    """A timm model of random weights, none of them zero."""
    model = timm.create_model(name, pretrained=False, **settings).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "vit_small_patch32_224",
        "mixer_s32_224",
        "swin_tiny_patch4_window7_224",
    ],
)
def test_logits_are_those_of_timm(name: str) -> None:
    model = timm_model(name)
    network = from_timm(model)
    x = images(network.architecture)
    with torch.no_grad():
        expected = model(x)
        assert expected.std() > 0.1
        assert difference(network(x), expected) < 1e-4


def test_variants_of_timm() -> None:
    """Layer scale, average pooling, other numbers of classes, channels and blocks."""
    model = timm_model(
        "vit_tiny_patch16_224",
        init_values=0.5,
        global_pool="avg",
        fc_norm=False,
        class_token=False,
        num_classes=7,
        in_chans=1,
        depth=2,
        img_size=96,
    )
    network = from_timm(model)
    x = images(network.architecture)
    with torch.no_grad():
        assert difference(network(x), model(x)) < 1e-4


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("resnet18", {}, "no counterpart for timm's ResNet; there are: VisionTransformer"),
        ("vit_tiny_patch16_224", {"qk_norm": True}, "query-key norm"),
        ("vit_tiny_patch16_224", {"reg_tokens": 4}, "register tokens"),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, "a norm after pooling"),
        ("vit_tiny_patch16_224", {"pre_norm": True}, "a norm before the blocks"),
        ("gmixer_12_224", {}, "have no counterpart: stages.0.blocks.0.mlp.fc2.weight"),
        ("resmlp_12_224", {}, "only those with MixerBlock"),
        ("vit_tiny_patch16_224", {"norm_layer": "rmsnorm"}, "LayerNorm"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    name: str, settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(SpaceError, match=reason):
        from_timm(timm.create_model(name, pretrained=False, **settings))


def test_supernet_of_a_timm_model_contains_it() -> None:
    """Kernels are kept for the largest patch and heads are sorted; timm's network stays in it."""
    space = SearchSpace.from_yaml("deit_tiny")
    model = timm_model("deit_tiny_patch16_224")
    network = from_timm(model)
    candidate = Candidate.uncompressed(network.architecture)
    assert candidate in space
    supernet = Supernet.from_network(space, network)
    x = images(candidate)
    with torch.no_grad():
        assert difference(supernet(candidate, x), model(x)) < 1e-4
        assert difference(supernet.extract(candidate)(x), model(x)) < 1e-4
