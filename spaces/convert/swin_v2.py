"""timm's SwinTransformerV2."""

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
    ".downsample.norm.": ".downsample.norm_out.",
    ".downsample.reduction.": ".downsample.merge.",
    ".cpb_mlp.0.weight": ".position_in",
    ".cpb_mlp.0.bias": ".position_bias",
    ".cpb_mlp.2.weight": ".position_out",
    ".q_bias": ".q.bias",
    ".v_bias": ".v.bias",
}


def convert(model: Any) -> Network:
    """A Swin transformer of the second version.

    Raises:
        SpaceError: its biases were trained for windows of another size, or windows are shifted on
            a grid that they do not divide.
    """
    blocks = [block for layer in model.layers for block in layer.blocks]
    for block in blocks:
        trained = block.attn.pretrained_window_size[0]
        if trained not in (0, block.window_size[0]):
            raise SpaceError(f"position biases of windows of {trained} have no counterpart")
        side, grid = block.window_size[0], block.input_resolution[0]
        if block.shift_size[0] and grid % side:
            raise SpaceError(f"shifted windows of {side} do not divide the grid of {grid}x{grid}")
    stages = tuple(
        Stage(
            layer.blocks[0].dim,
            tuple(
                Block(
                    "cosine_window",
                    num_heads=block.attn.num_heads,
                    head_dim=block.dim // block.attn.num_heads,
                    window_size=block.window_size[0],
                    shift=block.shift_size[0] > 0,
                    no_bias="k" if block.attn.q_bias is not None else "qkv",
                    mlp_hidden=block.mlp.fc1.out_features,
                )
                for block in layer.blocks
            ),
            downsample="merge_post",
        )
        for layer in model.layers
    )
    architecture = Architecture(
        stages=stages,
        stem_norm=True,
        pos_embed="none",
        post_norm=True,
        global_pool="avg",
        act=act_of(blocks[0].mlp.act),
        **norm_of(blocks[0].norm1),
        **embed_fields(model, model.patch_embed),
    )
    return network_of(architecture, _named(model.state_dict()))


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by our names."""
    state = renamed(state, NAMES)
    for name, tensor in state.items():
        if ".downsample.merge." in name:  # neighbors side by side, columns first
            split = tensor.unflatten(-1, (2, 2, -1))
            state[name] = split.permute(0, 3, 1, 2).flatten(1)
    return state
