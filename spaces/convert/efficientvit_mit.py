"""timm's EfficientVit, that of MIT: blocks of convolutions, then multi-scale linear attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, check_batch_norms, network_of, side_of

CONVOLUTIONS = {
    **{"inverted_conv.conv": "conv_pw", "inverted_conv.norm": "bn1", "depth_conv.conv": "conv_dw"},
    **{"depth_conv.norm": "bn2", "point_conv.conv": "conv_pwl", "point_conv.norm": "bn3"},
}
SEPARABLE = {
    **{"depth_conv.conv": "conv_dw", "depth_conv.norm": "bn1"},
    **{"point_conv.conv": "conv_pw", "point_conv.norm": "bn2"},
}
ATTENTION = {
    **{"qkv.conv": "qkv", "aggreg.0.0": "dwconv", "aggreg.0.1": "pwconv"},
    **{"proj.conv": "proj", "proj.norm": "bn"},
}
# Parts of each mixer, and of what leads to a stage.
PARTS = {
    **{"mbconv": CONVOLUTIONS, "mbconv_bias": CONVOLUTIONS, "separable": SEPARABLE},
    "multiscale_linear": ATTENTION,
}
ENTRY = {
    **{"inverted_conv.conv": "0", "inverted_conv.norm": "1", "depth_conv.conv": "3"},
    **{"depth_conv.norm": "4", "point_conv.conv": "7", "point_conv.norm": "8"},
}
LAYERS = ((0, "conv"), (1, "norm"))  # of a convolution with its norm
NOTHING = Block("identity2d")


def convert(model: Any) -> Network:
    """An EfficientViT of MIT, each of whose blocks with attention is two of ours.

    Raises:
        SpaceError: parts that have no counterpart.
    """
    stem, head = model.stem.in_conv, model.head
    if head.global_pool.pool_type != "avg":
        raise SpaceError(f"the model pools by {head.global_pool.pool_type!r}, not by 'avg'")
    check_batch_norms(model)
    first, stages = _branches(list(model.stem)[1:]), [list(stage.blocks) for stage in model.stages]
    architecture = Architecture(
        (
            Stage(stem.conv.out_channels, _blocks(first)),
            *(_stage(blocks) for blocks in stages),
            Stage(head.in_conv.conv.out_channels, (NOTHING,), "pointwise", stride=1),
        ),
        input_size=side_of(model.default_cfg["input_size"][1:], "images"),
        in_chans=stem.conv.in_channels,
        num_classes=model.num_classes,
        stem="mobile",
        patch_size=2,
        pos_embed="none",
        global_pool="avg",
        final_norm="none",
        act=act_of(stem.act),
        norm_eps=head.classifier[1].eps,
        head_hidden=head.classifier[0].out_features,
        head_norm=True,
    )
    return network_of(architecture, dict(_named(model, architecture)))


def _branches(blocks: list[Any]) -> list[Any]:
    """What blocks add to the stream, one after the other: attention stands before convolutions."""
    parts = (
        (block.context_module, block.local_module) if hasattr(block, "context_module") else (block,)
        for block in blocks
    )
    return [part.main for some in parts for part in some]


def _stage(blocks: list[Any]) -> Stage:
    """Our stage for the block that leads to it and those that follow."""
    entry, conv = blocks[0].main, blocks[0].main.depth_conv.conv
    return Stage(
        entry.point_conv.conv.out_channels,
        _blocks(_branches(blocks[1:])),
        "inverted_bias" if _is_biased(entry) else "inverted",
        side_of(conv.stride, "strides"),
        downsample_hidden=conv.out_channels if hasattr(entry, "inverted_conv") else 0,
        downsample_kernel=side_of(conv.kernel_size, "kernels"),
    )


def _blocks(branches: list[Any]) -> tuple[Block, ...]:
    """Ours of a stage; one that does nothing where there is none."""
    return tuple(map(_block, branches)) or (NOTHING,)


def _block(branch: Any) -> Block:
    mixer = _mixer(branch)
    if mixer == "multiscale_linear":
        return Block(
            mixer,
            num_heads=branch.qkv.conv.out_channels // (3 * branch.dim),
            head_dim=branch.dim,
            kernel_size=side_of(branch.aggreg[0][0].kernel_size, "kernels"),
        )
    conv = branch.depth_conv.conv
    hidden = 0 if mixer == "separable" else conv.out_channels
    return Block(mixer, mlp_hidden=hidden, kernel_size=side_of(conv.kernel_size, "kernels"))


def _mixer(branch: Any) -> str:
    kind = type(branch).__name__
    if kind == "LiteMLA":
        return "multiscale_linear"
    if kind == "DSConv":
        return "separable"
    if kind == "MBConv":
        return "mbconv_bias" if _is_biased(branch) else "mbconv"
    raise SpaceError(f"no counterpart for {kind}")


def _is_biased(convolutions: Any) -> bool:
    """Whether there is a norm after the last of them alone."""
    return isinstance(convolutions.depth_conv.norm, nn.Identity)


def _named(model: Any, a: Architecture) -> Iterator[tuple[str, Tensor]]:
    """Weights by our names."""
    last = f"stages.{len(a.stages) - 1}.downsample.pointwise"
    names = {
        **{f"stem.in_conv.{part}": f"patch_embed.layers.{n}" for n, part in LAYERS},
        **{f"head.in_conv.{part}": f"{last}.{n}" for n, part in LAYERS},
        **{"head.classifier.0": "pre_logits", "head.classifier.1": "norm_head"},
        "head.classifier.4": "head",
    }
    for name, value in model.state_dict().items():
        part, _, end = name.rpartition(".")
        if part in names or part.startswith("head."):
            yield f"{names.get(part, part)}.{end}", value
    groups = [list(model.stem)[1:], *(list(stage.blocks) for stage in model.stages)]
    for i, blocks in enumerate(groups):
        if i:
            layers = f"stages.{i}.downsample.{a.stages[i].downsample}"
            yield from _under(layers, blocks[0].main, ENTRY)
        for j, branch in enumerate(_branches(blocks[bool(i) :])):
            mixer = _mixer(branch)
            yield from _under(f"stages.{i}.blocks.{j}.{mixer}", branch, PARTS[mixer])


def _under(path: str, module: Any, parts: dict[str, str]) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.state_dict().items():
        part, _, end = name.rpartition(".")
        yield f"{path}.{parts.get(part, part)}.{end}", value
