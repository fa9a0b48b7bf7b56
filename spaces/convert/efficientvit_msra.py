"""timm's EfficientVitMsra: cascaded attention inside windows between convolutions and MLPs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..mixers.cascaded import kernels_of
from ..networks import Network
from .parts import check_batch_norms, network_of, side_of

MERGING = {
    **{"conv1.conv": "0", "conv1.bn": "1", "conv2.conv": "3", "conv2.bn": "4"},
    **{"se.fc1": "6.conv_reduce", "se.fc2": "6.conv_expand", "conv3.conv": "7", "conv3.bn": "8"},
}
# Parts of a module that is added to the stream, where their names are not ours.
PARTS = {
    **{"pw1.conv": "fc1", "pw1.bn": "bn1", "pw2.conv": "fc2", "pw2.bn": "bn2"},
    **{"attn.proj.1.conv": "proj", "attn.proj.1.bn": "bn"},
}
MIXERS = {
    "ConvNorm": "depthwise_residual",
    "ConvMlp": "conv_mlp",
    "LocalWindowAttention": "cascaded_window",
}
HEAD = {"head.bn": "fc_norm", "head.linear": "head"}


def convert(model: Any) -> Network:
    """An EfficientViT of MSRA, each of whose blocks is five of ours.

    Raises:
        SpaceError: parts that have no counterpart.
    """
    if model.global_pool.pool_type != "avg":
        raise SpaceError(f"the model pools by {model.global_pool.pool_type!r}, not by 'avg'")
    check_batch_norms(model)
    stem = [part for part in model.patch_embed if not isinstance(part, nn.ReLU)]
    last: dict[str, Any] = {"final_norm": "none"}
    if model.num_classes:
        last = {"norm": "batch", "norm_eps": model.head.bn.eps, "final_norm": "pooled"}
    groups = _grouped(model)
    pairs = zip(model.stages, groups, strict=True)
    architecture = Architecture(
        tuple(_stage(stage, branches) for stage, branches in pairs),
        input_size=side_of(model.img_size, "images"),
        in_chans=stem[0].conv.in_channels,
        num_classes=model.num_classes,
        stem="convs",
        patch_size=model.patch_embed.patch_size,
        pos_embed="relative",
        global_pool="avg",
        act="relu",
        se_gate="sigmoid",
        **last,
    )
    return network_of(architecture, dict(_named(model, groups)))


def _grouped(model: Any) -> list[list[Any]]:
    """What is added to the stream of each stage in order.

    What comes before the merging that leads to a stage is at the end of the one before.
    """
    groups: list[list[Any]] = []
    for stage in model.stages:
        own = [part for block in stage.blocks for part in block.children()]
        if not isinstance(stage.downsample, nn.Identity):
            if not groups:
                raise SpaceError("no counterpart for a first stage that halves the grid")
            groups[-1] += list(stage.downsample.res1)
            own = [*stage.downsample.res2, *own]
        groups.append(own)
    return [[part.m for part in group] for group in groups]


def _stage(stage: Any, branches: list[Any]) -> Stage:
    blocks = tuple(map(_block, branches))
    if isinstance(stage.downsample, nn.Identity):
        return Stage(branches[0].conv.out_channels, blocks)
    merging = stage.downsample.patchmerge
    return Stage(
        merging.conv3.conv.out_channels,
        blocks,
        "inverted",
        side_of(merging.conv2.conv.stride, "strides"),
        downsample_hidden=merging.conv2.conv.out_channels,
        downsample_kernel=side_of(merging.conv2.conv.kernel_size, "kernels"),
        downsample_se=merging.se.fc1.out_channels,
    )


def _block(branch: Any) -> Block:
    mixer = _mixer(branch)
    if mixer == "depthwise_residual":
        return Block(mixer, kernel_size=side_of(branch.conv.kernel_size, "kernels"))
    if mixer == "conv_mlp":
        return Block(mixer, mlp_hidden=branch.pw1.conv.out_channels)
    attention = branch.attn
    kernels = [side_of(dw.conv.kernel_size, "kernels") for dw in attention.dws]
    own = Block(
        mixer,
        num_groups=attention.num_heads,
        key_dim=attention.key_dim,
        kernel_size=kernels[0],
        kernel_step=max(0, kernels[0] - kernels[min(1, len(kernels) - 1)]),
        window_size=attention.resolution,
    )
    if kernels_of(own) != kernels:
        raise SpaceError(f"no counterpart for heads with kernels of {kernels}")
    return own


def _mixer(branch: Any) -> str:
    kind = type(branch).__name__
    if kind not in MIXERS:
        raise SpaceError(f"no counterpart for {kind}")
    return MIXERS[kind]


def _named(model: Any, groups: list[list[Any]]) -> Iterator[tuple[str, Tensor]]:
    """Weights by our names."""
    for name, value in model.state_dict().items():
        part, _, end = name.rpartition(".")
        if not name.startswith(("stages.", "patch_embed.")):
            yield f"{HEAD.get(part, part)}.{end}", value
    for number, conv in enumerate(p for p in model.patch_embed if not isinstance(p, nn.ReLU)):
        for name, value in conv.state_dict().items():
            part, _, end = name.partition(".")
            yield f"patch_embed.layers.{3 * number + (part == 'bn')}.{end}", value
    for i, (stage, branches) in enumerate(zip(model.stages, groups, strict=True)):
        if i:
            for name, value in stage.downsample.patchmerge.state_dict().items():
                part, _, end = name.rpartition(".")
                yield f"stages.{i}.downsample.inverted.{MERGING.get(part, part)}.{end}", value
        for j, branch in enumerate(branches):
            path = f"stages.{i}.blocks.{j}.{_mixer(branch)}"
            for name, value in branch.state_dict().items():
                yield from _of_branch(path, name, value)


def _of_branch(path: str, name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A weight of what is added to the stream, by our name."""
    if name == "attn.attention_biases":
        side = round(value.shape[1] ** 0.5)
        yield f"{path}.bias_table", value.unflatten(1, (side, side))
        return
    part, _, end = name.rpartition(".")
    yield f"{path}.{PARTS.get(part, part.removeprefix('attn.'))}.{end}", value
