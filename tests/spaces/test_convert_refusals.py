"""Models without a counterpart are refused with what is missing; every converter has its laws."""

import pytest
import timm
import torch
from timm.models.mlp_mixer import MlpMixer
from timm.models.vision_transformer import ResPostBlock

from vitpareto.spaces import SpaceError
from vitpareto.spaces.convert import CONVERTERS, from_model, from_timm
from vitpareto.spaces.convert.contract import with_noise

from . import test_convert_hierarchies as hierarchies
from . import test_convert_transformers as transformers


def test_every_converter_is_tested() -> None:
    files = (hierarchies, transformers)
    laws = [law for file in files for name, law in vars(file).items() if name.startswith("Test")]
    kinds = {*transformers.REGISTERED, "Eva"} | {
        kind.__name__ for law in laws for make in law.models for kind in type(make()).__mro__
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


def test_branches_too_faint_to_prove_anything_are_looked_at_with_scales_of_one() -> None:
    slim = {"img_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 5}
    model = timm.create_model("vit_tiny_patch16_224", init_values=1e-5, **slim)
    assert from_timm(model).stages[0].blocks[0].ls1.gamma.detach().max() == pytest.approx(1e-5)
    model.blocks[1].mlp.act = torch.nn.ReLU()
    with pytest.raises(SpaceError, match="its logits would change by"):
        from_timm(model)


def test_logits_that_prove_nothing_are_refused() -> None:
    with pytest.raises(SpaceError, match="all logits are 0, which proves nothing"):
        from_timm(MlpMixer(img_size=32, num_blocks=1, embed_dim=16))


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
        (
            "swin_tiny_patch4_window7_224",
            {"window_size": (4, 8), "depths": (1,), "img_size": 64},
            "windows must be square, got 4x8",
        ),
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
