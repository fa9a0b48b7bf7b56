"""timm's MobileViT and MobileViTv2, which are ByobNets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, network_of, renamed, side_of

BOTTLENECK = {
    **{"conv1_1x1.conv": "conv_pw", "conv1_1x1.bn": "bn1", "conv2_kxk.conv": "conv_dw"},
    **{"conv2_kxk.bn": "bn2", "conv3_1x1.conv": "conv_pwl", "conv3_1x1.bn": "bn3"},
}
# The same parts where they lead to a stage.
ENTRY = {"conv_pw": "0", "bn1": "1", "conv_dw": "3", "bn2": "4", "conv_pwl": "7", "bn3": "8"}
MOBILEVIT = {
    **{"conv_kxk.conv.": "conv_kxk.", "conv_kxk.bn.": "bn1.", "transformer.": "layers."},
    **{"conv_proj.conv.": "conv_proj.", "conv_proj.bn.": "bn2."},
    **{"conv_fusion.conv.": "conv_fusion.", "conv_fusion.bn.": "bn3."},
}
SEPARABLE = MOBILEVIT | {".attn.out_proj.": ".attn.proj."}
NOTHING = Block("identity2d")
KINDS = ("BottleneckBlock", "MobileVitBlock", "MobileVitV2Block")
MIXERS: dict[str, str] = dict(zip(KINDS, ("mbconv", "mobilevit", "mobilevit2"), strict=True))


def convert(model: Any) -> Network:
    """A MobileViT of either version.

    Raises:
        SpaceError: another ByobNet, or parts that have no counterpart.
    """
    stages = _grouped(model)
    transformers = [b for blocks in stages for b in blocks if type(b).__name__ in KINDS[1:]]
    if not transformers or not hasattr(model.stem, "conv"):
        raise SpaceError("of timm's ByobNets only MobileViT converts")
    if model.head.global_pool.pool_type != "avg":
        pool = model.head.global_pool.pool_type
        raise SpaceError(f"the model pools by {pool!r}, not by 'avg'")
    size = side_of(model.default_cfg["input_size"][1:], "images")
    first, *others = stages
    has_last = not isinstance(model.final_conv, nn.Identity)
    last = Stage(model.num_features, (NOTHING,), "pointwise", stride=1)
    architecture = Architecture(
        (
            Stage(model.stem.conv.out_channels, _blocks(first)),
            *map(_stage, others),
            *([last] if has_last else []),
        ),
        input_size=size,
        in_chans=model.stem.conv.in_channels,
        num_classes=model.num_classes,
        stem="mobile",
        patch_size=2,
        pos_embed="none",
        global_pool="avg",
        final_norm="none",
        act=act_of(model.stem.bn.act),
        norm_eps=transformers[0].norm.eps,
    )
    return network_of(architecture, dict(_named(model, stages)))


def _grouped(model: Any) -> list[list[Any]]:
    """Blocks of our stages; all but the first begin with the one that leads to them."""
    stages: list[list[Any]] = [[]]
    for block in (block for stage in model.stages for block in stage):
        kind = type(block).__name__
        if kind not in KINDS:
            raise SpaceError(f"of timm's ByobNets only MobileViT converts, not {kind}")
        if kind == KINDS[0] and block.shortcut is None:
            stages.append([])
        stages[-1].append(block)
    return stages


def _stage(blocks: list[Any]) -> Stage:
    entry, *others = blocks
    conv, last = entry.conv2_kxk.conv, entry.conv3_1x1.conv
    return Stage(
        last.out_channels,
        _blocks(others),
        "inverted",
        side_of(conv.stride, "strides"),
        downsample_hidden=conv.out_channels,
        downsample_kernel=side_of(conv.kernel_size, "kernels"),
    )


def _blocks(blocks: list[Any]) -> tuple[Block, ...]:
    """Ours of a stage; one that does nothing where there is none."""
    return tuple(map(_block, blocks)) or (NOTHING,)


def _block(block: Any) -> Block:
    mixer = MIXERS[type(block).__name__]
    if mixer == "mbconv":
        conv = block.conv2_kxk.conv
        kernel = side_of(conv.kernel_size, "kernels")
        return Block(mixer, mlp_hidden=conv.out_channels, kernel_size=kernel)
    if mixer == "mobilevit" and block.conv_fusion is None:
        raise SpaceError("a block without fusion has no counterpart")
    first = block.transformer[0]
    heads = {"inner_heads": first.attn.num_heads} if mixer == "mobilevit" else {}
    return Block(
        mixer,
        mlp_hidden=len(first.mlp.fc1.weight),
        kernel_size=side_of(block.conv_kxk.conv.kernel_size, "kernels"),
        unfold_size=side_of(block.patch_size, "squares"),
        inner_width=block.conv_1x1.out_channels,
        inner_layers=len(block.transformer),
        **heads,
    )


def _named(model: Any, stages: list[list[Any]]) -> Iterator[tuple[str, Tensor]]:
    """Weights by our names."""
    last = f"stages.{len(stages)}.downsample.pointwise"
    names = {
        **{"stem.conv": "patch_embed.layers.0", "stem.bn": "patch_embed.layers.1"},
        **{"final_conv.conv": f"{last}.0", "final_conv.bn": f"{last}.1", "head.fc": "head"},
    }
    for name, value in model.state_dict().items():
        part, _, end = name.rpartition(".")
        if not name.startswith("stages."):
            yield f"{names.get(part, part)}.{end}", value
    for i, blocks in enumerate(stages):
        for j, block in enumerate(blocks):
            path, state = f"stages.{i}.blocks.{j - bool(i)}.", block.state_dict()
            mixer = MIXERS[type(block).__name__]
            if mixer == "mobilevit2":
                state = dict(_parted(state))
            if mixer != "mbconv":
                for name, value in renamed(state, SEPARABLE).items():
                    yield f"{path}{mixer}.{name}", value
                continue
            for name, value in state.items():
                part, _, end = name.rpartition(".")
                own = BOTTLENECK.get(part, part)
                if i and not j:
                    yield f"stages.{i}.downsample.inverted.{ENTRY.get(own, own)}.{end}", value
                else:
                    yield f"{path}mbconv.{own}.{end}", value


def _parted(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Weights with the joint layer of one score, keys and values as two."""
    for name, value in state.items():
        start, joint, end = name.partition("qkv_proj.")
        if not joint:
            yield name, value
            continue
        width = len(value) // 2
        for own, part in zip(("qk", "v"), value.split((1 + width, width)), strict=True):
            yield f"{start}{own}.{end}", part
