"""Swin of Hugging Face's transformers, with its classifier or without, by way of timm's names.

Without one, the features are the mean of all tokens after the last norm.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from ..architecture import Architecture, Stage
from ..block import Block
from ..networks import Network
from .parts import act_of, norm_of, side_of
from .swin import FIELDS, network_from_timm

NAMES = {
    r"^swin\.": "",
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"^embeddings\.norm\.": "patch_embed.norm.",
    r"^encoder\.layers\.": "layers.",
    r"\.attention\.([qkv])_proj\.": r".attn.\1.",
    r"\.attention\.o_proj\.": ".attn.proj.",
    r"\.attention\.relative_position_bias\.": ".attn.",
    r"\.layernorm_before\.": ".norm1.",
    r"\.layernorm_after\.": ".norm2.",
    r"^layernorm\.": "norm.",
    r"^classifier\.": "head.fc.",
}
MASK_TOKEN = "embeddings.mask_token"  # on which no answer depends


def convert(model: Any) -> Network:
    """A Swin transformer, with the position biases of its windows."""
    config, layers = model.config, getattr(model, "swin", model).encoder.layers
    first, state = layers[0].blocks[0], _renamed(model.state_dict())
    head = state.get("head.fc.weight")
    side, patch = side_of(config.image_size, "images"), side_of(config.patch_size, "patches")
    architecture = Architecture(
        stages=tuple(_stage(layer, config, side // patch >> i) for i, layer in enumerate(layers)),
        input_size=side,
        in_chans=config.num_channels,
        num_classes=0 if head is None else len(head),
        patch_size=patch,
        act=act_of(first.mlp.activation_fn),
        **FIELDS,
        **norm_of(first.layernorm_before),
    )
    return network_from_timm(architecture, state)


def _stage(layer: Any, config: Any, grid: int) -> Stage:
    """Blocks on a grid; windows that cover it are not shifted."""
    blocks = tuple(
        Block(
            mixer="window",
            num_heads=len(block.attention.relative_position_bias.relative_position_bias_table.T),
            head_dim=block.attention.head_dim,
            window_size=config.window_size,
            shift=index % 2 == 1 and grid > config.window_size,
            mlp_hidden=block.mlp.fc1.out_features,
        )
        for index, block in enumerate(layer.blocks)
    )
    return Stage(layer.blocks[0].mlp.fc1.in_features, blocks, downsample="merge")


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by timm's names; there, merging begins a stage, and here it ends the one before."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for old, new in NAMES.items():
            name = re.sub(old, new, name)
        if found := re.match(r"layers\.(\d+)\.downsample\.", name):
            name = f"layers.{int(found[1]) + 1}.downsample.{name[found.end() :]}"
        if name != MASK_TOKEN:
            renamed[name] = tensor
    return renamed
