"""timm's SwinTransformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, embed_fields, network_of, norm_of, renamed

NAMES = {
    "layers.": "stages.",
    "patch_embed.norm.": "norm_stem.",
    "head.fc.": "head.",
    ".relative_position_bias_table": ".bias_table",
}
FIELDS: Mapping[str, Any] = {"stem_norm": True, "pos_embed": "relative", "global_pool": "avg"}


def convert(model: Any) -> Network:
    """A Swin transformer, with the position biases of its windows.

    Raises:
        SpaceError: windows are not square.
    """
    for rows, columns in (block.window_size for layer in model.layers for block in layer.blocks):
        if rows != columns:
            raise SpaceError(f"windows must be square, got {rows}x{columns}")
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
        act=act_of(model.layers[0].blocks[0].mlp.act),
        **FIELDS,
        **norm_of(model.layers[0].blocks[0].norm1),
        **embed_fields(model, model.patch_embed),
    )
    return network_from_timm(architecture, model.state_dict())


def network_from_timm(architecture: Architecture, state: Mapping[str, Tensor]) -> Network:
    """The network with weights by timm's names.

    Raises:
        SpaceError: a parameter that only one of both has, or in another shape.
    """
    state = renamed(state, NAMES)
    for name, tensor in state.items():
        if name.endswith("bias_table"):
            side = round(tensor.shape[0] ** 0.5)
            state[name] = tensor.T.unflatten(1, (side, side))
        elif ".downsample." in name:  # four neighbors side by side: ours are within a channel
            state[name] = tensor.unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)
    return network_of(architecture, state)
