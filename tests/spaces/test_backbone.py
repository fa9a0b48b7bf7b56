"""Backbones: the maps that leave the stages of a network, as timm's own networks give them."""

from collections import OrderedDict

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from vitpareto.spaces import Block
from vitpareto.spaces.convert import from_timm
from vitpareto.spaces.errors import SpaceError
from vitpareto.spaces.networks.backbone import Backbone, feature_maps

from .helpers import difference, efficient, images, randomize, randomized, small


def swin() -> nn.Module:
    return SwinTransformer(
        img_size=64, embed_dim=16, depths=(1, 2, 1), num_heads=(1, 2, 4), window_size=4
    )


def convnext() -> nn.Module:
    return timm.create_model("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))


def vit() -> nn.Module:
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)


@pytest.mark.parametrize("make", [swin, convnext, vit])
def test_maps_are_those_of_timm(make: type[nn.Module]) -> None:
    original = make().eval()
    randomize(original.state_dict())
    network = from_timm(original)
    x, maps = images(network.architecture), feature_maps(network.architecture)
    with torch.no_grad():
        found = Backbone.of(network)(x)
        expected = [*original.forward_intermediates(x, indices=len(maps), intermediates_only=True)]  # pyright: ignore[reportCallIssue]
        if network.architecture.final_norm == "tokens":
            last = expected[-1].permute(0, 2, 3, 1)
            expected[-1] = original.norm(last).permute(0, 3, 1, 2)  # pyright: ignore[reportCallIssue]
        assert difference(network(x), original(x)) < 1e-4  # it is still a classifier
    for about, mine, timms in zip(maps, found, expected, strict=True):
        assert difference(mine, timms) < 1e-4 * timms.abs().max()
        assert mine.shape[1:] == (about.channels, *about.size)
        assert about.stride * about.size[0] == network.architecture.input_size


def test_a_detector_stands_on_them() -> None:
    network = from_timm(swin())
    maps = feature_maps(network.architecture)
    assert [(m.name, m.stride, m.channels) for m in maps] == [
        ("stage_1", 4, 16),
        ("stage_2", 8, 32),
        ("stage_3", 16, 64),
    ]
    pyramid = FeaturePyramidNetwork([m.channels for m in maps], 12)
    found = Backbone.of(network)(images(network.architecture))
    levels = pyramid(OrderedDict(zip((m.name for m in maps), found, strict=True)))
    assert [level.shape[1:] for level in levels.values()] == [(12, *m.size) for m in maps]


def test_strides_of_odd_grids() -> None:
    maps = feature_maps(efficient())
    assert [(m.stride, *m.size) for m in maps] == [(4, 7, 7), (8, 4, 4), (8, 4, 4), (16, 2, 2)]


def test_dropped_tokens_leave_no_map() -> None:
    blocks = Block(num_heads=3, head_dim=8, token_keep=0.5), Block(num_heads=3, head_dim=8)
    network = randomized(small(*blocks, global_pool="avg"))
    with pytest.raises(SpaceError, match=r"stage 1: 33 of 64 tokens are left, which are no map"):
        Backbone.of(network)
