"""timm's VisionTransformer: ViT and DeiT, with distillation token or layer scale."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import common_fields, network_of, renamed


def convert(model: Any) -> Network:
    """A plain vision transformer.

    Raises:
        SpaceError: a variant that the vocabulary does not have, with the reason.
    """
    first = model.blocks[0]
    absent = {
        "register tokens": not model.num_reg_tokens,
        "query-key norm": isinstance(first.attn.q_norm, nn.Identity),
        "a norm before the blocks": isinstance(model.norm_pre, nn.Identity),
        "a norm after pooling": isinstance(model.fc_norm, nn.Identity),
        "attention pooling": model.attn_pool is None,
        "positions for patches only": not model.no_embed_class,
    }
    for what, missing in absent.items():
        if not missing:
            raise SpaceError(f"the model has {what}, which the vocabulary does not have")
    distilled = getattr(model, "dist_token", None) is not None
    pool = "distill" if distilled else model.global_pool
    blocks = tuple(
        Block(
            mixer="softmax",
            num_heads=block.attn.num_heads,
            head_dim=block.attn.head_dim,
            mlp_hidden=block.mlp.fc1.out_features,
        )
        for block in model.blocks
    )
    architecture = Architecture(
        stages=(Stage(model.embed_dim, blocks),),
        pos_embed="none" if model.pos_embed is None else "learned",
        global_pool=pool,
        layer_scale=not isinstance(first.ls1, nn.Identity),
        **common_fields(model, model.patch_embed, first.mlp.act),
    )
    return network_of(architecture, renamed(model.state_dict(), {"blocks.": "stages.0.blocks."}))
