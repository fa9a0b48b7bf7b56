"""torchvision's VisionTransformer."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture, Stage
from ..block import Block
from ..networks import Network
from .parts import act_of, network_of, norm_of

NAMES = {
    "class_token": "cls_token",
    "conv_proj.": "patch_embed.proj.",
    r"encoder\.pos_embedding": "pos_embed",
    r"encoder\.layers\.encoder_layer_(\d+)\.": r"stages.0.blocks.\1.",
    r"\.ln_(\d)\.": r".norm\1.",
    r"\.self_attention\.out_proj\.": ".attn.proj.",
    r"\.mlp\.(0|linear_1)\.": ".mlp.fc1.",
    r"\.mlp\.(3|linear_2)\.": ".mlp.fc2.",
    r"encoder\.ln\.": "norm.",
    r"heads\.head\.": "head.",
}


def convert(model: Any) -> Network:
    """A vision transformer with one linear head."""
    blocks: list[Block] = []
    for layer in model.encoder.layers:
        attention = layer.self_attention
        heads, width = attention.num_heads, attention.embed_dim
        hidden = layer.mlp[0].out_features
        numbers = {"num_heads": heads, "head_dim": width // heads}
        blocks.append(Block("softmax", mlp_hidden=hidden, **numbers))
    first = model.encoder.layers[0]
    activation = next(m for m in first.mlp if not isinstance(m, nn.Linear | nn.Dropout))
    architecture = Architecture(
        stages=(Stage(model.hidden_dim, tuple(blocks)),),
        input_size=model.image_size,
        num_classes=model.num_classes,
        patch_size=model.patch_size,
        act=act_of(activation),
        **norm_of(first.ln_1),
    )
    return network_of(architecture, _renamed(model.state_dict()))


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for old, new in NAMES.items():
            name = re.sub(old, new, name)
        if ".self_attention.in_proj_" in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[name.replace("self_attention.in_proj_", f"attn.{part}.")] = piece
        else:
            renamed[name] = tensor
    return renamed
