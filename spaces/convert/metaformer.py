"""timm's MetaFormer where pooling mixes: PoolFormer."""

from __future__ import annotations

from typing import Any

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, kind_of_norm, network_of, norm_of, renamed, side_of

NAMES = {
    "stem.conv.": "patch_embed.proj.",
    ".downsample.conv.": ".downsample.overlap.",
    ".layer_scale1.scale": ".ls1.gamma",
    ".layer_scale2.scale": ".ls2.gamma",
    "head.norm.": "fc_norm.",
    "head.fc.": "head.",
}


def convert(model: Any) -> Network:
    """A PoolFormer.

    Raises:
        SpaceError: another token mixer, pooling or head, or the further parts of PoolFormerV2.
    """
    first, config, stem = model.stages[0].blocks[0], model.default_cfg, model.stem.conv
    mixers = {type(block.token_mixer).__name__ for stage in model.stages for block in stage.blocks}
    if mixers != {"Pooling"}:
        raise SpaceError(f"of timm's MetaFormers only PoolFormer converts, not {min(mixers)}")
    if type(first.mlp.act).__name__ == "StarReLU" or first.norm1.bias is None:
        raise SpaceError(
            "PoolFormerV2 has activations with learned scales, scales on the residual stream and "
            "norms without a shift, which have no counterpart"
        )
    if model.head.global_pool.pool_type != "avg" or model.use_mlp_head:
        raise SpaceError("a head that is no average and one layer has no counterpart")
    stages = tuple(
        Stage(
            stage.blocks[0].mlp.fc1.in_channels,
            tuple(Block("pool", mlp_hidden=block.mlp.fc1.out_channels) for block in stage.blocks),
            downsample="overlap",
        )
        for stage in model.stages
    )
    architecture = Architecture(
        stages,
        input_size=side_of(config["input_size"][1:], "images"),
        in_chans=stem.in_channels,
        num_classes=model.num_classes,
        stem="overlap",
        patch_size=side_of(stem.stride, "patches"),
        stem_norm=bool(kind_of_norm(model.stem.norm)),
        pos_embed="none",
        global_pool="avg",
        final_norm="pooled",
        final_eps=model.head.norm.eps,
        act=act_of(first.mlp.act),
        layer_scale=hasattr(first.layer_scale1, "scale"),
        **norm_of(first.norm1),
    )
    return network_of(architecture, renamed(model.state_dict(), NAMES))
