"""timm's EfficientFormerV2, whose blocks of attention and an MLP are two of ours each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, check_halving, heads_of, network_of, normed, pool_of, side_of, wider

LAYERS = {"stride_conv": "coarser", "q": "q", "k": "k", "v": "v", "v_local": "local"}
MIXING = {"talking_head1": "mix_scores", "talking_head2": "mix_weights"}
# Convolutions of an MLP -> ours and the batch norm after it.
MLP = {"fc1": ("conv_pw", "bn1"), "mid": ("conv_dw", "bn2"), "fc2": ("conv_pwl", "bn3")}


def convert(model: Any) -> Network:
    """An EfficientFormerV2.

    Biases of convolutions before batch norms go into the means of these.

    Raises:
        SpaceError: other pooling or norms, or stages that do not halve the grid.
    """
    stages, stem = list(model.stages), model.stem
    if model.global_pool != "avg":
        raise SpaceError(f"the model pools by {model.global_pool!r}, not by 'avg'")
    check_halving(stages)
    architecture = Architecture(
        tuple(map(_stage, stages)),
        input_size=side_of(model.default_cfg["input_size"][1:], "images"),
        in_chans=model.in_chans,
        num_classes=model.num_classes,
        stem="mobile",
        patch_size=4,
        pos_embed="none",
        global_pool=pool_of(model),
        norm="batch",
        norm_eps=model.norm.eps,
        act=act_of(stem.conv1.bn.act),
        layer_scale=hasattr(stages[0].blocks[0].ls2, "gamma"),
    )
    return network_of(architecture, dict(_named(model)))


def _stage(stage: Any) -> Stage:
    attends = getattr(stage.downsample, "attn", None) is not None
    return Stage(
        stage.blocks[0].mlp.fc2.conv.out_channels,
        tuple(own for block in stage.blocks for own in _blocks(block)),
        downsample="conv_attention" if attends else "conv",
    )


def _blocks(block: Any) -> Iterator[Block]:
    """Ours for one of theirs."""
    if (attention := block.token_mixer) is not None:
        coarser = attention.stride_conv
        yield Block(
            "talking_heads",
            num_heads=attention.num_heads,
            head_dim=attention.key_dim,
            value_dim=wider(attention.d, attention.key_dim),
            attn_stride=1 if coarser is None else side_of(coarser.conv.stride, "strides"),
        )
    kernel = side_of(block.mlp.mid.conv.kernel_size, "kernels")
    yield Block("mbconv", mlp_hidden=block.mlp.fc1.conv.out_channels, kernel_size=kernel)


def _named(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights by our names."""
    path = "patch_embed.layers"
    for layer, index in ((model.stem.conv1, 0), (model.stem.conv2, 3)):
        yield from normed(layer.conv, layer.bn, f"{path}.{index}", f"{path}.{index + 1}")
    for i, stage in enumerate(model.stages):
        if i:
            yield from _downsample(stage.downsample, f"stages.{i}.downsample")
        j = 0
        for block in stage.blocks:
            if block.token_mixer is not None:
                path = f"stages.{i}.blocks.{j}"
                yield from _scale(block.ls1, path)
                yield from _attention(block.token_mixer, f"{path}.talking_heads")
                j += 1
            path = f"stages.{i}.blocks.{j}"
            yield from _scale(block.ls2, path)
            for name, (conv, norm) in MLP.items():
                layer = getattr(block.mlp, name)
                own = f"{path}.mbconv.{conv}", f"{path}.mbconv.{norm}"
                yield from normed(layer.conv, layer.bn, *own)
            j += 1
    for part, module in {"norm": model.norm, **heads_of(model)}.items():
        yield from ((f"{part}.{name}", value) for name, value in module.state_dict().items())


def _scale(scale: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if hasattr(scale, "gamma"):
        yield f"{path}.ls1.gamma", scale.gamma


def _attention(attention: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """Weights of attention that leaves the grid as it is."""
    yield from _layers(attention, path, LAYERS)
    proj = attention.proj
    yield from normed(proj.conv, proj.bn, f"{path}.proj", f"{path}.bn")
    for name, own in MIXING.items():
        for end, value in getattr(attention, name).state_dict().items():
            yield f"{path}.{own}.{end}", value


def _downsample(downsample: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """Weights of what leads to a stage."""
    layer = downsample.conv
    yield from normed(layer.conv, layer.bn, f"{path}.conv", f"{path}.bn")
    if (attention := downsample.attn) is None:
        return
    path = f"{path}.attend"
    yield from _layers(attention, path, ("k", "v", "v_local", "proj"))
    # The token that is added to the convolution around it is one more in the middle of its kernel.
    query, middle = attention.q, torch.zeros_like(attention.q.local.weight)
    middle[:, :, 1, 1] = 1
    yield f"{path}.q.local.weight", query.local.weight + middle
    own = f"{path}.q.conv", f"{path}.q.bn"
    yield from normed(query.proj.conv, query.proj.bn, *own, entering=query.local.bias)


def _layers(attention: Any, path: str, names: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights of convolutions with batch norms, and of the biases of positions."""
    for name in names:
        if (layer := getattr(attention, name)) is not None:
            own = f"{path}.{LAYERS.get(name, name)}"
            yield from normed(layer.conv, layer.bn, f"{own}.conv", f"{own}.bn")
    biases = attention.attention_biases
    yield f"{path}.bias_table", biases.unflatten(1, tuple(attention.resolution))
