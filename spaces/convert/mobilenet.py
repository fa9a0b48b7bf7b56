"""timm's MobileNetV2 and V3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, check_batch_norms, network_of, side_of

NAMES = {
    **{"conv_stem": "patch_embed.layers.0", "bn1": "patch_embed.layers.1"},
    "classifier": "head",
}
# Parts of a block that changes grid or width -> ours of what leads to a stage.
ENTRIES = {
    "InvertedResidual": {
        **{"conv_pw": "inverted.0", "bn1": "inverted.1", "conv_dw": "inverted.3"},
        **{"bn2": "inverted.4", "se": "inverted.6", "conv_pwl": "inverted.7", "bn3": "inverted.8"},
    },
    "DepthwiseSeparableConv": {
        **{"conv_dw": "inverted.3", "bn1": "inverted.4", "se": "inverted.6"},
        **{"conv_pw": "inverted.7", "bn2": "inverted.8"},
    },
    "ConvBnAct": {"conv": "pointwise.0", "bn1": "pointwise.1"},
}
NOTHING = Block("identity2d")
# Blocks that may have a residual.
MIXERS = {"InvertedResidual": "mbconv", "DepthwiseSeparableConv": "separable"}


def convert(model: Any) -> Network:
    """A MobileNetV2, whose last convolution comes before pooling, or V3, where it comes after.

    Each block without a residual leads to a stage of ours, whose blocks are those up to the next.

    Raises:
        SpaceError: blocks, a head or norms that have no counterpart.
    """
    act, pool, after = act_of(model.bn1.act), model.global_pool.pool_type, hasattr(model, "act2")
    if pool != "avg":
        raise SpaceError(f"the model pools by {pool!r}, not by 'avg'")
    if after and not isinstance(model.norm_head, nn.Identity):
        raise SpaceError("no counterpart for a head with a norm")
    if act_of(model.act2 if after else model.bn2.act) != act:
        raise SpaceError("no counterpart for a head with another activation")
    check_batch_norms(model)
    width = model.conv_head.out_channels
    first, *stages = _grouped(model)
    architecture = Architecture(
        (
            Stage(model.conv_stem.out_channels, _blocks(first), act=_act(first)),
            *(_stage(blocks) for blocks in stages),
            *(() if after else (Stage(width, (NOTHING,), "pointwise", stride=1),)),
        ),
        input_size=side_of(model.default_cfg["input_size"][1:], "images"),
        in_chans=model.conv_stem.in_channels,
        num_classes=model.num_classes,
        stem="mobile",
        patch_size=2,
        pos_embed="none",
        global_pool="avg",
        head_hidden=width if after else 0,
        final_norm="none",
        act=act,
    )
    return network_of(architecture, dict(_named(model, len(stages) + 1, after)))


def _grouped(model: Any) -> list[list[Any]]:
    """Blocks of our stages; all but the first begin with the block that leads to them."""
    stages: list[list[Any]] = [[]]
    for block in (block for stage in model.blocks for block in stage):
        kind = type(block).__name__
        if kind not in ENTRIES or (block.has_skip and kind not in MIXERS):
            raise SpaceError(f"no counterpart for {kind}{' and its residual' * block.has_skip}")
        if not block.has_skip:
            stages.append([])
        stages[-1].append(block)
    return stages


def _blocks(blocks: Sequence[Any]) -> tuple[Block, ...]:
    """Ours of a stage; one that does nothing where there is none."""
    return tuple(map(_block, blocks)) or (NOTHING,)


def _block(block: Any) -> Block:
    mixer = MIXERS[type(block).__name__]
    return Block(
        mixer,
        mlp_hidden=block.conv_pw.out_channels if mixer == "mbconv" else 0,
        kernel_size=side_of(block.conv_dw.kernel_size, "kernels"),
        se_hidden=_squeezed(block),
    )


def _stage(blocks: Sequence[Any]) -> Stage:
    """Our stage for the block that leads to it and those that follow."""
    entry, own, act = blocks[0], _blocks(blocks[1:]), _act(blocks)
    kind = type(entry).__name__
    if kind == "ConvBnAct":
        stride = side_of(entry.conv.stride, "strides")
        return Stage(entry.conv.out_channels, own, "pointwise", stride, act)
    expands = kind == "InvertedResidual"
    return Stage(
        (entry.conv_pwl if expands else entry.conv_pw).out_channels,
        own,
        "inverted",
        side_of(entry.conv_dw.stride, "strides"),
        act,
        downsample_hidden=entry.conv_pw.out_channels if expands else 0,
        downsample_kernel=side_of(entry.conv_dw.kernel_size, "kernels"),
        downsample_se=_squeezed(entry),
    )


def _act(blocks: Sequence[Any]) -> str:
    """The activation of some blocks; none of no blocks."""
    acts = {act_of(block.bn1.act) for block in blocks}
    if len(acts) > 1:
        raise SpaceError(f"activations must be the same in a stage, got {', '.join(sorted(acts))}")
    return "".join(acts)


def _squeezed(block: Any) -> int:
    """Channels of its squeeze-and-excitation."""
    if isinstance(block.se, nn.Identity):
        return 0
    names = {type(part).__name__.lower() for part in (block.se.act1, block.se.gate)}
    if names != {"relu", "hardsigmoid"}:
        raise SpaceError("squeeze-and-excitation must have ReLU and a hard sigmoid")
    return block.se.conv_reduce.out_channels


def _named(model: Any, last: int, after: bool) -> Iterator[tuple[str, Tensor]]:
    """Weights by our names.

    Args:
        model: whose weights they are.
        last: index of the stage that its last convolution leads to, if it comes before pooling.
        after: whether it comes after.
    """
    end = f"stages.{last}.downsample.pointwise"
    head = {"conv_head": "pre_logits"} if after else {"conv_head": f"{end}.0", "bn2": f"{end}.1"}
    names: Mapping[str, str] = NAMES | head
    for name, value in model.state_dict().items():
        part, _, rest = name.partition(".")
        if part in names:
            # A layer after pooling is a 1x1 convolution there.
            flat = after and part == "conv_head" and value.ndim == 4
            yield f"{names[part]}.{rest}", value.flatten(1) if flat else value
    for i, blocks in enumerate(_grouped(model)):
        for j, block in enumerate(blocks):
            kind = type(block).__name__
            for name, value in block.state_dict().items():
                layer, _, rest = name.partition(".")
                if i and not j:
                    yield f"stages.{i}.downsample.{ENTRIES[kind][layer]}.{rest}", value
                else:
                    yield f"stages.{i}.blocks.{j - bool(i)}.{MIXERS[kind]}.{name}", value
