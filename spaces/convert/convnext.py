"""timm's ConvNeXt."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, kind_of_norm, network_of, norm_of, side_of

NAMES = {
    "stem.0.": "patch_embed.proj.",
    "stem.1.": "norm_stem.",
    ".downsample.0.": ".downsample.norm_in.",
    ".downsample.1.": ".downsample.proj.",
    ".gamma": ".ls1.gamma",
    ".conv_dw.": ".conv_next.conv_dw.",
    ".mlp.": ".conv_next.",
    "norm_pre.": "norm.",
    "head.norm.": "fc_norm.",
    "head.fc.": "head.",
}


def convert(model: Any) -> Network:
    """A ConvNeXt with a stem of patches.

    Raises:
        SpaceError: another stem, pooling or head.
    """
    stem, first, config = model.stem, model.stages[0].blocks[0], model.default_cfg
    if len(stem) != 2:
        raise SpaceError("no counterpart for a stem of overlapping convolutions")
    if model.head.global_pool.pool_type != "avg":
        raise SpaceError(f"the model pools by {model.head.global_pool.pool_type!r}, not by 'avg'")
    stages = tuple(
        Stage(
            stage.blocks[0].conv_dw.out_channels,
            tuple(
                Block(
                    "conv_next",
                    kernel_size=side_of(block.conv_dw.kernel_size, "kernels"),
                    mlp_hidden=len(block.mlp.fc1.weight),
                )
                for block in stage.blocks
            ),
            downsample="patch",
        )
        for stage in model.stages
    )
    architecture = Architecture(
        stages,
        input_size=side_of(config["input_size"][1:], "images"),
        in_chans=stem[0].in_channels,
        num_classes=model.num_classes,
        patch_size=side_of(stem[0].kernel_size, "patches"),
        stem_bias=stem[0].bias is not None,
        stem_norm=True,
        pos_embed="none",
        global_pool="avg",
        final_norm="tokens" if kind_of_norm(model.norm_pre) else "pooled",
        act=act_of(first.mlp.act),
        layer_scale=first.gamma is not None,
        **norm_of(first.norm),
    )
    return network_of(architecture, {_name(n): _flat(n, v) for n, v in model.state_dict().items()})


def _name(name: str) -> str:
    """Our name of a parameter."""
    if ".blocks." in name:
        name = name.replace(".norm.", ".conv_next.norm.")
    for old, new in NAMES.items():
        name = name.replace(old, new)
    return name


def _flat(name: str, value: Tensor) -> Tensor:
    """Weights of a linear layer, which may be a 1x1 convolution there."""
    return value.flatten(1) if ".mlp.fc" in name and value.ndim > 1 else value
