"""timm's MlpMixer, of MixerBlocks, and its ResMLP, of ResBlocks."""

from __future__ import annotations

from typing import Any

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, embed_fields, network_of, norm_of, renamed

NAMES = {
    "stem.": "patch_embed.",
    "blocks.": "stages.0.blocks.",
    ".mlp_tokens.": ".token_mlp.",
    ".mlp_channels.": ".mlp.",
    ".linear_tokens.": ".token_linear.fc.",
}
RESIDUAL = {".ls1": ".ls1.gamma", ".ls2": ".ls2.gamma", ".alpha": ".weight", ".beta": ".bias"}


def convert(model: Any) -> Network:
    """An MLP-Mixer, or a ResMLP.

    Raises:
        SpaceError: another of the networks that timm makes of this class.
    """
    kinds = {type(block).__name__ for block in model.blocks}
    if kinds not in ({"MixerBlock"}, {"ResBlock"}):
        raise SpaceError(
            "of timm's MLP models only those with MixerBlock or ResBlock have a counterpart"
        )
    residual = kinds == {"ResBlock"}
    architecture = Architecture(
        stages=(Stage(model.embed_dim, tuple(map(_block, model.blocks))),),
        pos_embed="none",
        global_pool="avg",
        act=act_of(model.blocks[0].mlp_channels.act),
        layer_scale=residual,
        **norm_of(model.blocks[0].norm1),
        **embed_fields(model, model.stem),
    )
    state = renamed(model.state_dict(), NAMES | (RESIDUAL if residual else {}))
    return network_of(
        architecture,
        # Scale and shift of ResMLP have an axis for images and one for tokens.
        {n: v.flatten() if v.ndim == 3 and residual else v for n, v in state.items()},
    )


def _block(block: Any) -> Block:
    hidden = block.mlp_channels.fc1.out_features
    if type(block).__name__ == "ResBlock":
        return Block("token_linear", mlp_hidden=hidden)
    return Block("token_mlp", token_hidden=block.mlp_tokens.fc1.out_features, mlp_hidden=hidden)
