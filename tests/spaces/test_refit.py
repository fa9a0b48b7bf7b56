"""A refitted network says what the original says, or what an independent resizing makes of it."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from timm.models.mlp_mixer import MlpMixer
from torch.nn import functional as F

from vitpareto.spaces import Architecture, Block, SpaceError, Stage
from vitpareto.spaces.convert import from_timm
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.network import to_tokens
from vitpareto.spaces.networks.refit import (
    resized_network,
    with_classes,
    with_pixels,
    without_distillation,
)

from .helpers import difference, images, randomized

BLOCK = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=32)
SWIN = {"depths": (1, 1), "embed_dim": 12, "img_size": 56, "num_classes": 6}
PLAIN = Architecture((Stage(16, (BLOCK, BLOCK)),), input_size=16, patch_size=4, num_classes=6)


def variant(**fields: object) -> Network:
    return randomized(Architecture(**{**vars(PLAIN), **fields}))


@pytest.mark.parametrize(
    "network",
    [
        variant(),
        variant(global_pool="distill", layer_scale=True),
        variant(global_pool="avg", pos_embed="none"),
        variant(stem_bias=False, pre_norm=True),
        variant(stem_bias=False, pos_embed="patches", registers=2),
        from_timm(timm.create_model("swin_tiny_patch4_window7_224", **SWIN)),
    ],
    ids=["class token", "two heads", "no positions", "no bias", "registers", "norm after the stem"],
)
def test_other_pixels(network: Network) -> None:
    x = images(network.architecture)
    scale, shift = [0.5, 2.0, -1.5], [0.25, -3.0, 1.0]
    own = x * torch.tensor(scale)[:, None, None] + torch.tensor(shift)[:, None, None]
    with torch.no_grad():
        assert difference(with_pixels(network, scale, shift, 3)(x), network(own)) < 1e-4
        gray = x[:, :1]
        own = gray * torch.tensor(scale)[:, None, None] + torch.tensor(shift)[:, None, None]
        assert difference(with_pixels(network, scale, shift, 1)(gray), network(own)) < 1e-4


def test_channels_and_stems_that_cannot() -> None:
    with pytest.raises(SpaceError, match=r"takes 1 channel\(s\), the images have 3"):
        with_pixels(variant(in_chans=1), [1.0], [0.0], 3)
    with pytest.raises(SpaceError, match="no bias, and there are no positions"):
        with_pixels(variant(stem_bias=False, pos_embed="none"), [2.0] * 3, [0.0] * 3, 3)
    with pytest.raises(SpaceError, match="no bias, and there are no positions right behind it"):
        with_pixels(variant(stem_bias=False, stem_norm=True), [2.0] * 3, [0.0] * 3, 3)
    with pytest.raises(SpaceError, match="only a patch embedding"):
        with_pixels(variant(stem="conv"), [2.0] * 3, [0.0] * 3, 3)
    same = variant(stem="conv")
    assert with_pixels(same, [1.0] * 3, [0.0] * 3, 3) is same


@pytest.mark.parametrize("pool", ["token", "distill"])
def test_other_classes(pool: str) -> None:
    network = variant(global_pool=pool)
    x = images(network.architecture)
    with torch.no_grad():
        logits, picked = network(x), with_classes(network, [4, None, 0])(x)
    assert torch.allclose(picked[:, [0, 2]], logits[:, [4, 0]], atol=1e-5)
    assert picked[:, 1].equal(torch.zeros(len(x)))


def test_other_classes_of_exits() -> None:
    network = variant(stages=(Stage(16, (BLOCK, BLOCK), exits="1"),))
    made, x = with_classes(network, [4, None, 0]), images(network.architecture)
    with torch.no_grad():
        [logits, picked] = [
            n.get_submodule("stages.0.exits.1")(n.stages[0].blocks[0](n.enter(x)[0]))
            for n in (network, made)
        ]
    assert torch.allclose(picked[:, [0, 2]], logits[:, [4, 0]], atol=1e-5)
    assert picked[:, 1].equal(torch.zeros(len(x)))


@pytest.mark.parametrize("pos_embed", ["learned", "patches"])
def test_a_dropped_distillation_token_is_cut_out_of_the_stream(pos_embed: str) -> None:
    network = variant(global_pool="distill", registers=2, pos_embed=pos_embed)
    made, x = without_distillation(network), images(network.architecture)
    with torch.no_grad():
        stream = network.embed(to_tokens(network.patch_embed(x)))
        stream = torch.cat([stream[:, :1], stream[:, 2:]], 1)
        for block in network.stages[0].blocks:
            stream = block(stream)
        wanted = network.head(network.norm(stream)[:, 0])
        assert difference(made(x), wanted) < 1e-5
        assert difference(network.forward_heads(network.forward_features(x))[0], wanted) > 1e-3
    assert made.architecture.global_pool == "token" and network.head_dist is not None
    with pytest.raises(SpaceError, match="'token' has no distillation token to drop"):
        without_distillation(made)


def test_larger_patches_see_larger_images_alike() -> None:
    """The pseudo-inverse resize is exact where patches grow (FlexiViT, section 3.4)."""
    network = variant()
    x = images(network.architecture)
    # Patch by patch, as the resize knows no neighbors.
    patches = x.unflatten(-1, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 1, 3, 5)
    grown = F.interpolate(patches.flatten(0, 2), (8, 8), mode="bilinear")
    larger = grown.unflatten(0, (len(x), 4, 4)).permute(0, 3, 1, 4, 2, 5)
    larger = larger.flatten(4).flatten(2, 3)
    with torch.no_grad():
        assert difference(resized_network(network, 32, 8)(larger), network(x)) < 1e-4


def test_positions_and_kernels_are_resized_as_timm_does() -> None:
    network = variant()
    made = resized_network(network, 48, 6)
    wanted = resample_abs_pos_embed(network.pos_embed, [8, 8], num_prefix_tokens=1)
    assert torch.allclose(made.pos_embed, wanted, atol=1e-5)
    kernel = network.patch_embed.proj.weight
    resized = resample_patch_embed(kernel, [6, 6], interpolation="bilinear", antialias=True)
    assert torch.allclose(made.patch_embed.proj.weight, resized, atol=1e-4)
    assert resized_network(network, 16, 4) is network


def test_a_network_that_is_bound_to_its_size() -> None:
    slim = MlpMixer(img_size=64, patch_size=32, num_blocks=1, embed_dim=16, num_classes=6)
    mixer = from_timm(slim.apply(_fill))
    with pytest.raises(SpaceError, match="only takes images of 64 pixels in patches of 32"):
        resized_network(mixer, 96, 32)


def _fill(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Linear):
        torch.nn.init.normal_(module.weight, std=0.05)


@pytest.mark.parametrize(
    "block",
    [
        Block("linear", num_heads=2, head_dim=8, kernel_size=3, mlp_hidden=32),
        Block("grouped", num_heads=2, head_dim=8, kv_heads=1, mlp_hidden=32),
        Block("multiscale_linear", num_heads=2, head_dim=8, kernel_size=3, mlp_hidden=32),
        Block("unfold", num_heads=2, head_dim=8, unfold_size=2, inner_width=16, mlp_hidden=32),
    ],
    ids=lambda block: block.mixer,
)
def test_what_is_of_no_size_stays_as_it_is(block: Block) -> None:
    """Also where shared weights hold it in another shape."""
    network = variant(stages=(Stage(16, (block,)),), global_pool="avg", pos_embed="none")
    made = resized_network(network, 32, 4)
    state = network.state_dict()
    assert all(value.equal(state[name]) for name, value in made.state_dict().items())
    assert made(torch.randn(1, 3, 32, 32)).isfinite().all()
