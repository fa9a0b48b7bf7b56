"""With the settings and weights of others' transformers, our networks give their logits."""

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
import transformers
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from torch import nn

from vitpareto.cost_models import workload
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.convert import answer_of, from_model, from_timm
from vitpareto.spaces.convert.contract import ConverterContract, with_noise
from vitpareto.spaces.supernet import Supernet

from .helpers import difference, images, makes

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
