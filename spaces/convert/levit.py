"""timm's LeViT, with linear layers or convolutions, distilled or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, network_of, side_of

HEADS = {
    **{"head.bn": "fc_norm", "head.linear": "head"},
    **{"head_dist.bn": "fc_norm_dist", "head_dist.linear": "head_dist"},
}
EPS = 1e-5  # of batch norms


def convert(model: Any) -> Network:
    """A LeViT: each of its blocks is one of attention and one of an MLP, which has norms inside.

    Raises:
        SpaceError: another pooling, or activations that differ.
    """
    if model.global_pool != "avg":
        raise SpaceError(f"the model pools by {model.global_pool!r}, not by 'avg'")
    stem, first = model.stem, model.stages[0].blocks[0]
    acts = {act_of(act) for act in (stem.act1, first.attn.proj.act, first.mlp.act)}
    if len(acts) > 1:
        raise SpaceError(f"activations must be the same, got {', '.join(sorted(acts))}")
    answers = model.num_classes > 0
    distilled = answers and hasattr(model, "head_dist")
    architecture = Architecture(
        tuple(_stage(*pair) for pair in zip(model.stages, model.embed_dim, strict=True)),
        input_size=side_of(first.attn.resolution, "images") * stem.stride,
        in_chans=stem.conv1.linear.in_channels,
        num_classes=model.num_classes,
        stem="convs",
        patch_size=stem.stride,
        pos_embed="none",
        global_pool="avg_distill" if distilled else "avg",
        final_norm="pooled" if answers else "none",
        norm="batch",
        norm_eps=EPS,
        act=acts.pop(),
    )
    return network_of(architecture, dict(_named(model)))


def _stage(stage: Any, width: int) -> Stage:
    """Blocks of a stage; the MLP that follows attention that halves the grid is one."""
    halves = hasattr(stage.downsample, "mlp")
    blocks = [_mlp(stage.downsample)] if halves else []
    for block in stage.blocks:
        blocks += [_attention(block.attn), _mlp(block)]
    own = {"downsample_head_dim": stage.downsample.attn_downsample.key_dim} if halves else {}
    return Stage(width, tuple(blocks), "attention", **own)


def _attention(attention: Any) -> Block:
    keys, values = attention.key_dim, attention.val_dim
    return Block(
        "levit",
        num_heads=attention.num_heads,
        head_dim=keys,
        value_dim=0 if values == keys else values,
    )


def _mlp(block: Any) -> Block:
    return Block("normed_mlp", mlp_hidden=len(block.mlp.ln1.linear.weight))


def _named(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights by our names."""
    for name, value in model.state_dict().items():
        part, _, end = name.rpartition(".")
        if found := re.fullmatch(r"stem\.conv(\d)\.(linear|bn)", part):
            at = 3 * (int(found[1]) - 1) + (found[2] == "bn")
            yield f"patch_embed.layers.{at}.{end}", value
        elif not name.startswith("stages."):
            yield f"{HEADS.get(part, part)}.{end}", value
    for i, stage in enumerate(model.stages):
        for name, value in _of_stage(stage):
            yield f"stages.{i}.{name}", value


def _of_stage(stage: Any) -> Iterator[tuple[str, Tensor]]:
    down, before = stage.downsample, 0
    if hasattr(down, "mlp"):
        before = 1
        yield from _under("downsample.attention", _of_attention(down.attn_downsample))
        yield from _under("blocks.0.normed_mlp", _of_mlp(down.mlp))
    for j, block in enumerate(stage.blocks):
        at = before + 2 * j
        yield from _under(f"blocks.{at}.levit", _of_attention(block.attn))
        yield from _under(f"blocks.{at + 1}.normed_mlp", _of_mlp(block.mlp))


def _under(path: str, named: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for name, value in named:
        yield f"{path}.{name}", value


def _of_attention(attention: Any) -> Iterator[tuple[str, Tensor]]:
    keys, heads = {"k": attention.key_dim, "v": attention.val_dim}, attention.num_heads
    if hasattr(attention, "kv"):
        yield from _of_layer(attention.q.ln, "q", "q_norm")
        yield from _of_joint(attention.kv, keys, heads)
    else:
        yield from _of_joint(attention.qkv, {"q": attention.key_dim, **keys}, heads)
    yield "bias_table", attention.attention_biases.detach().unflatten(1, attention.resolution)
    yield from _of_layer(attention.proj.ln, "proj", "norm")


def _of_mlp(mlp: Any) -> Iterator[tuple[str, Tensor]]:
    yield from _of_layer(mlp.ln1, "fc1", "norm1")
    yield from _of_layer(mlp.ln2, "fc2", "norm2")


def _of_layer(layer: Any, name: str, norm: str) -> Iterator[tuple[str, Tensor]]:
    """A layer, which may be a 1x1 convolution there, and its norm."""
    for key, value in layer.state_dict().items():
        kind, _, end = key.partition(".")
        own = name if kind == "linear" else norm
        yield f"{own}.{end}", value.flatten(1) if value.ndim == 4 else value


def _of_joint(layer: Any, dims: Mapping[str, int], heads: int) -> Iterator[tuple[str, Tensor]]:
    """A layer whose outputs are those of several side by side in each head, and its norm."""
    for key, value in layer.state_dict().items():
        kind, _, end = key.partition(".")
        pieces = [value] * len(dims)  # of a count of batches
        if value.ndim:
            split = value.reshape(heads, sum(dims.values()), *value.shape[1:2])
            pieces = [piece.flatten(0, 1) for piece in split.split(list(dims.values()), 1)]
        for name, piece in zip(dims, pieces, strict=True):
            own = name if kind == "linear" else f"{name}_norm"
            yield f"{own}.{end}", piece
