"""timm's SwinTransformer."""

from __future__ import annotations

from typing import Any

from ..architecture import Architecture, Stage
from ..block import Block
from ..networks import Network
from .parts import act_of, embed_fields, network_of, norm_of, renamed


def convert(model: Any) -> Network:
    """A Swin transformer, with the position biases of its windows."""
    stages = tuple(
        Stage(
            layer.blocks[0].dim,
            tuple(
                Block(
                    mixer="window",
                    num_heads=block.attn.num_heads,
                    head_dim=block.attn.qkv.out_features // 3 // block.attn.num_heads,
                    window_size=block.window_size[0],
                    shift=block.shift_size[0] > 0,
                    mlp_hidden=block.mlp.fc1.out_features,
                )
                for block in layer.blocks
            ),
            downsample="merge",
        )
        for layer in model.layers
    )
    architecture = Architecture(
        stages=stages,
        stem_norm=True,
        pos_embed="relative",
        global_pool="avg",
        act=act_of(model.layers[0].blocks[0].mlp.act),
        **norm_of(model.layers[0].blocks[0].norm1),
        **embed_fields(model, model.patch_embed),
    )
    names = {
        "layers.": "stages.",
        "patch_embed.norm.": "norm_stem.",
        "head.fc.": "head.",
        ".relative_position_bias_table": ".bias_table",
    }
    state = renamed(model.state_dict(), names)
    for name, tensor in state.items():
        if name.endswith("bias_table"):
            side = round(tensor.shape[0] ** 0.5)
            state[name] = tensor.T.unflatten(1, (side, side))
        elif ".downsample." in name:  # four neighbors side by side: ours are within a channel
            state[name] = tensor.unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)
    return network_of(architecture, state)
