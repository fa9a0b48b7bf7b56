"""timm's MlpMixer, of MixerBlocks."""

from __future__ import annotations

from typing import Any

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, embed_fields, network_of, norm_of, renamed


def convert(model: Any) -> Network:
    """An MLP-Mixer.

    Raises:
        SpaceError: another of the networks that timm makes of this class.
    """
    if {type(block).__name__ for block in model.blocks} != {"MixerBlock"}:
        raise SpaceError("of timm's MLP models only those with MixerBlock have a counterpart")
    blocks = tuple(
        Block(
            mixer="token_mlp",
            token_hidden=block.mlp_tokens.fc1.out_features,
            mlp_hidden=block.mlp_channels.fc1.out_features,
        )
        for block in model.blocks
    )
    architecture = Architecture(
        stages=(Stage(model.embed_dim, blocks),),
        pos_embed="none",
        global_pool="avg",
        act=act_of(model.blocks[0].mlp_channels.act),
        **norm_of(model.blocks[0].norm1),
        **embed_fields(model, model.stem),
    )
    names = {
        "stem.": "patch_embed.",
        "blocks.": "stages.0.blocks.",
        ".mlp_tokens.": ".token_mlp.",
        ".mlp_channels.": ".mlp.",
    }
    return network_of(architecture, renamed(model.state_dict(), names))
