"""timm's TinyViT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, network_of, norm_of, parted, side_of, wider

STEM = {"conv1.conv": "0", "conv1.bn": "1", "conv2.conv": "3", "conv2.bn": "4"}
MERGING = STEM | {"conv3.conv": "6", "conv3.bn": "7"}
MBCONV = {
    **{"conv1.conv": "conv_pw", "conv2.conv": "conv_dw", "conv3.conv": "conv_pwl"},
    **{f"conv{n}.bn": f"bn{n}" for n in (1, 2, 3)},
}


def convert(model: Any) -> Network:
    """A TinyViT: each of its blocks is one of attention, and one of a convolution with an MLP.

    Raises:
        SpaceError: its windows do not divide a grid.
    """
    stem = model.patch_embed
    size = side_of(model.default_cfg["input_size"][1:], "images")
    stages = tuple(
        Stage(
            getattr(stage, "out_dim", None) or stage.dim,
            tuple(own for block in stage.blocks for own in _blocks(block, size // 4 >> index)),
            downsample="mbconv",
        )
        for index, stage in enumerate(model.stages)
    )
    architecture = Architecture(
        stages,
        input_size=size,
        in_chans=stem.conv1.conv.in_channels,
        num_classes=model.num_classes,
        stem="convs",
        patch_size=4,
        pos_embed="relative",
        global_pool="avg",
        final_norm="pooled",
        final_eps=model.head.norm.eps,
        act=act_of(stem.act),
        **norm_of(model.stages[-1].blocks[0].attn.norm),
    )
    return network_of(architecture, _named(model.state_dict(), architecture))


def _blocks(block: Any, grid: int) -> tuple[Block, ...]:
    """Our blocks for one of theirs."""
    if not hasattr(block, "attn"):
        kernel = side_of(block.conv2.conv.kernel_size, "kernels")
        hidden = block.conv1.conv.out_channels
        return (Block("mbconv_act", kernel_size=kernel, mlp_hidden=hidden),)
    attention, window = block.attn, block.window_size
    if grid % window:
        raise SpaceError(f"windows of {window} do not divide the grid of {grid}x{grid}")
    return (
        Block(
            "window",
            num_heads=attention.num_heads,
            head_dim=attention.key_dim,
            value_dim=wider(attention.val_dim, attention.key_dim),
            window_size=window,
            symmetric=True,
        ),
        Block(
            "depthwise",
            kernel_size=side_of(block.local_conv.conv.kernel_size, "kernels"),
            mlp_hidden=block.mlp.fc1.out_features,
        ),
    )


def _named(state: Mapping[str, Tensor], a: Architecture) -> dict[str, Tensor]:
    """Weights by our names."""
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        if found := re.match(r"stages\.(\d+)\.blocks\.(\d+)\.(.*)", name):
            stage, index = int(found[1]), int(found[2])
            if a.stages[stage].blocks[0].mixer == "window":
                named |= _of_block(found[3], value, stage, 2 * index, a)
            else:
                prefix = f"stages.{stage}.blocks.{index}.mbconv_act."
                named[prefix + _replaced(found[3], MBCONV)] = value
        elif ".downsample." in name or name.startswith("patch_embed."):
            start, part, rest = re.split(r"(downsample|patch_embed)\.", name, maxsplit=1)
            named[f"{start}{part}.layers.{_replaced(rest, MERGING)}"] = value
        else:
            named[name.replace("head.norm.", "fc_norm.").replace("head.fc.", "head.")] = value
    return named


def _of_block(
    name: str, value: Tensor, stage: int, index: int, a: Architecture
) -> dict[str, Tensor]:
    """A weight of a block of attention, convolution and MLP."""
    attends, feeds = (f"stages.{stage}.blocks.{i}." for i in (index, index + 1))
    block = a.stages[stage].blocks[index]
    part, _, rest = name.partition(".")
    if part == "local_conv":
        return {f"{feeds}depthwise.{rest}": value}
    if part == "mlp" and rest.startswith("norm."):
        return {f"{feeds}norm2.{rest[5:]}": value}
    if part == "mlp":  # on a grid its layers are convolutions
        return {f"{feeds}{name}": value[:, :, None, None] if value.ndim == 2 else value}
    if rest == "attention_biases":
        return {f"{attends}attn.bias_table": value.unflatten(1, (block.window_size, -1))}
    if rest.startswith("norm."):
        return {f"{attends}norm1.{rest[5:]}": value}
    if rest.startswith("qkv."):
        pieces = parted(value, block.num_heads, block.head_dim)
        return {
            f"{attends}attn.{own}{rest[3:]}": piece
            for own, piece in zip("qkv", pieces, strict=True)
        }
    return {f"{attends}{name}": value}


def _replaced(name: str, names: Mapping[str, str]) -> str:
    """A name with its first two parts replaced."""
    start, last = name.rsplit(".", 1)
    return f"{names[start]}.{last}"
