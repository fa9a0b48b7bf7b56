"""timm's MetaFormer where pooling mixes: PoolFormer of both versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

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
# Of the second version, in a block of pooling and in one of an MLP; both have a norm of their own.
POOL = {"norm1.": "norm.", "res_scale1.scale": "res_scale.gamma"}
MLP = {"norm2.": "norm.", "res_scale2.scale": "res_scale.gamma", "mlp.": ""}
NORM = Block("norm2d")  # of the stream, before and between stages


def convert(model: Any) -> Network:
    """A PoolFormer.

    Raises:
        SpaceError: another token mixer, pooling or head.
    """
    first, stem = model.stages[0].blocks[0], model.stem.conv
    mixers = {type(block.token_mixer).__name__ for stage in model.stages for block in stage.blocks}
    if mixers != {"Pooling"}:
        raise SpaceError(f"of timm's MetaFormers only PoolFormer converts, not {min(mixers)}")
    if model.head.global_pool.pool_type != "avg" or model.use_mlp_head:
        raise SpaceError("a head that is no average and one layer has no counterpart")
    shared: dict[str, Any] = {
        "input_size": side_of(model.default_cfg["input_size"][1:], "images"),
        "in_chans": stem.in_channels,
        "num_classes": model.num_classes,
        "stem": "overlap",
        "patch_size": side_of(stem.stride, "patches"),
        "pos_embed": "none",
        "global_pool": "avg",
        "final_norm": "pooled",
        "final_eps": model.head.norm.eps,
    }
    if type(first.mlp.act).__name__ == "StarReLU":
        stages = list(model.stages)
        own = tuple(_second(stage, i == 0, i + 1 == len(stages)) for i, stage in enumerate(stages))
        architecture = Architecture(own, norm_eps=first.norm1.eps, **shared)
        return network_of(architecture, dict(_named(model)))
    architecture = Architecture(
        tuple(map(_first, model.stages)),
        stem_norm=bool(kind_of_norm(model.stem.norm)),
        act=act_of(first.mlp.act),
        layer_scale=hasattr(first.layer_scale1, "scale"),
        **shared,
        **norm_of(first.norm1),
    )
    return network_of(architecture, renamed(model.state_dict(), NAMES))


def _first(stage: Any) -> Stage:
    """Blocks of the first version."""
    blocks = tuple(Block("pool", mlp_hidden=block.mlp.fc1.out_channels) for block in stage.blocks)
    return Stage(stage.blocks[0].mlp.fc1.in_channels, blocks, downsample="overlap")


def _second(stage: Any, first: bool, last: bool) -> Stage:
    """Blocks of the second version, a pair for each; norms of the stream are blocks, too."""
    blocks = [NORM] * first
    for block in stage.blocks:
        hidden = block.mlp.fc1.out_channels
        blocks += [
            Block("pool_scaled", res_scale=hasattr(block.res_scale1, "scale")),
            Block("star_mlp", mlp_hidden=hidden, res_scale=hasattr(block.res_scale2, "scale")),
        ]
    blocks += [NORM] * (not last)
    return Stage(stage.blocks[0].mlp.fc1.in_channels, tuple(blocks), downsample="overlap")


def _named(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights of the second version by our names."""
    for part in ("stem.conv", "head.norm", "head.fc"):
        for name, value in model.get_submodule(part).state_dict().items():
            yield f"{NAMES[f'{part}.']}{name}", value
    norm, end = model.stem.norm, 0  # what norms the stream next, and where
    for i, stage in enumerate(model.stages):
        if i:
            for name, value in stage.downsample.conv.state_dict().items():
                yield f"stages.{i}.downsample.overlap.{name}", value
            norm = stage.downsample.norm
        before = i - 1 if i else 0
        for name, value in norm.state_dict().items():
            yield f"stages.{before}.blocks.{end}.norm2d.{name}", value
        start = int(i == 0)
        for j, block in enumerate(stage.blocks):
            at = start + 2 * j
            yield from _of_block(block, f"stages.{i}.blocks.{at}.pool_scaled.", POOL)
            yield from _of_block(block, f"stages.{i}.blocks.{at + 1}.star_mlp.", MLP)
        end = start + 2 * len(stage.blocks)


def _of_block(block: Any, path: str, names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """Weights of a half of a block."""
    for name, value in block.state_dict().items():
        for old, new in names.items():
            if name.startswith(old):
                # The scale of an activation is a weight.
                own = name.replace(old, new, 1).replace("act.scale", "act.weight")
                yield f"{path}{own}", value
