"""timm's EfficientFormer, whose blocks of pooling and an MLP are two of ours each."""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

from torch import Tensor

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import (
    act_of,
    check_halving,
    heads_of,
    network_of,
    norm_of,
    normed,
    parted,
    pool_of,
    side_of,
    wider,
)

# Convolutions of the stem -> ours, each followed by its batch norm.
STEM = {"conv1": 0, "conv2": 3}
MLP = {"fc1": "norm1", "fc2": "norm2"}  # convolutions -> batch norms


def convert(model: Any) -> Network:
    """An EfficientFormer.

    Biases of convolutions before batch norms go into the means of these.

    Raises:
        SpaceError: other pooling or norms, stages that do not halve the grid, or attention on
            another grid than that of its biases.
    """
    stages, size = list(model.stages), side_of(model.default_cfg["input_size"][1:], "images")
    if model.global_pool != "avg":
        raise SpaceError(f"the model pools by {model.global_pool!r}, not by 'avg'")
    check_halving(stages)
    architecture = Architecture(
        tuple(_stage(stage, size // 4 >> i) for i, stage in enumerate(stages)),
        input_size=size,
        in_chans=model.in_chans,
        num_classes=model.num_classes,
        stem="mobile",
        patch_size=4,
        pos_embed="relative",
        global_pool=pool_of(model),
        act=act_of(model.stem.act1),
        layer_scale=True,
        **norm_of(model.norm),
    )
    return network_of(architecture, dict(_named(model)))


def _blocks_of(stage: Any) -> list[Any]:
    """Its blocks, without what leads from a grid to tokens."""
    return [block for block in stage.blocks if hasattr(block, "token_mixer")]


def _pools(block: Any) -> bool:
    return hasattr(block.token_mixer, "pool")


def _stage(stage: Any, grid: int) -> Stage:
    blocks = _blocks_of(stage)
    return Stage(
        blocks[0].ls1.gamma.shape[0],
        tuple(own for block in blocks for own in _own(block, grid)),
        act=act_of(blocks[0].mlp.act),
    )


def _own(block: Any, grid: int) -> tuple[Block, ...]:
    """Ours for one of theirs."""
    mixer, hidden = block.token_mixer, block.mlp.fc1.weight.shape[0]
    if _pools(block):
        if mixer.pool.kernel_size != 3:
            raise SpaceError(f"pooling must be over 3x3 tokens, got {mixer.pool.kernel_size}")
        return Block("pool_raw"), Block("conv_mlp", mlp_hidden=hidden)
    if mixer.attention_biases.shape[1] != grid**2:
        raise SpaceError(
            f"biases of {mixer.attention_biases.shape[1]} offsets are not those of the grid of "
            f"{grid}x{grid}"
        )
    attention = Block(
        "window",
        num_heads=mixer.num_heads,
        head_dim=mixer.key_dim,
        value_dim=wider(mixer.val_dim, mixer.key_dim),
        window_size=grid,
        symmetric=True,
        mlp_hidden=hidden,
    )
    return (attention,)


def _named(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights by our names."""
    for conv, index in STEM.items():
        norm = getattr(model.stem, conv.replace("conv", "norm"))
        path = "patch_embed.layers"
        parts = getattr(model.stem, conv), norm
        yield from normed(*parts, f"{path}.{index}", f"{path}.{index + 1}")
    for i, stage in enumerate(model.stages):
        if i:
            path, parts = f"stages.{i}.downsample", (stage.downsample.conv, stage.downsample.norm)
            yield from normed(*parts, f"{path}.conv", f"{path}.bn")
        j = 0
        for block in _blocks_of(stage):
            yield from _of_block(block, i, j)
            j += 1 + _pools(block)
    for part, module in {"norm": model.norm, **heads_of(model)}.items():
        yield from ((f"{part}.{name}", value) for name, value in module.state_dict().items())


def _of_block(block: Any, stage: int, index: int) -> Iterator[tuple[str, Tensor]]:
    """Weights of one of their blocks, which begins with ours of that index."""
    first, second = (f"stages.{stage}.blocks.{j}" for j in (index, index + 1))
    yield f"{first}.ls1.gamma", block.ls1.gamma
    if _pools(block):
        for number, (conv, norm) in enumerate(MLP.items(), 1):
            parts = getattr(block.mlp, conv), getattr(block.mlp, norm)
            path = f"{second}.conv_mlp"
            yield from normed(*parts, f"{path}.{conv}", f"{path}.bn{number}")
        yield f"{second}.ls1.gamma", block.ls2.gamma
        return
    yield f"{first}.ls2.gamma", block.ls2.gamma
    for part in ("norm1", "norm2", "mlp"):
        for name, value in getattr(block, part).state_dict().items():
            yield f"{first}.{part}.{name}", value
    attention, state = block.token_mixer, block.token_mixer.state_dict()
    side = isqrt(attention.attention_biases.shape[1])
    yield f"{first}.attn.bias_table", attention.attention_biases.unflatten(1, (side, side))
    for end in ("weight", "bias"):
        pieces = parted(state[f"qkv.{end}"], attention.num_heads, attention.key_dim)
        for own, piece in zip("qkv", pieces, strict=True):
            yield f"{first}.attn.{own}.{end}", piece
        yield f"{first}.attn.proj.{end}", state[f"proj.{end}"]
