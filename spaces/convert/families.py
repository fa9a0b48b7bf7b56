"""from_timm: a timm model as our network, with its weights and its logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers.layer_scale import LayerScale as TimmLayerScale
from timm.models.mlp_mixer import MixerBlock, MlpMixer
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks.network import Network


def from_timm(model: nn.Module) -> Network:
    """The same network in our vocabulary, in evaluation mode.

    Covers plain vision transformers (ViT, DeiT, DeiT with distillation token, with or without
    layer scale), MLP-Mixer and Swin.

    Raises:
        SpaceError: a model or a variant that the vocabulary does not have, with the reason.
    """
    convert = {VisionTransformer: _vit, MlpMixer: _mixer, SwinTransformer: _swin}
    kind = next((kind for kind in convert if isinstance(model, kind)), None)
    if kind is None:
        names = ", ".join(kind.__name__ for kind in convert)
        raise SpaceError(f"no counterpart for timm's {type(model).__name__}; there are: {names}")
    architecture, state = convert[kind](model)
    with torch.random.fork_rng(devices=[]):
        network = Network(architecture)
    own = {name: parameter.shape for name, parameter in network.named_parameters()}
    left = own.items() ^ {name: tensor.shape for name, tensor in state.items()}.items()
    if left:
        raise SpaceError(f"timm's model has parts that have no counterpart: {min(left)[0]}")
    network.load_state_dict(state, strict=False)
    return network.eval()


def _vit(model: Any) -> tuple[Architecture, dict[str, Tensor]]:
    first = model.blocks[0]
    absent = {
        "register tokens": not model.num_reg_tokens,
        "query-key norm": isinstance(first.attn.q_norm, nn.Identity),
        "a norm before the blocks": isinstance(model.norm_pre, nn.Identity),
        "a norm after pooling": isinstance(model.fc_norm, nn.Identity),
        "attention pooling": model.attn_pool is None,
        "positions for patches only": not model.no_embed_class,
    }
    for what, missing in absent.items():
        if not missing:
            raise SpaceError(f"timm's model has {what}, which the vocabulary does not have")
    distilled = getattr(model, "dist_token", None) is not None
    pool = "distill" if distilled else model.global_pool
    blocks = tuple(
        Block(
            mixer="softmax",
            num_heads=block.attn.num_heads,
            head_dim=block.attn.head_dim,
            mlp_hidden=block.mlp.fc1.out_features,
        )
        for block in model.blocks
    )
    architecture = Architecture(
        stages=(Stage(model.embed_dim, blocks),),
        pos_embed="none" if model.pos_embed is None else "learned",
        global_pool=pool,
        layer_scale=isinstance(first.ls1, TimmLayerScale),
        **_common(model, model.patch_embed, first.mlp.act),
    )
    return architecture, _renamed(model.state_dict(), {"blocks.": "stages.0.blocks."})


def _mixer(model: Any) -> tuple[Architecture, dict[str, Tensor]]:
    if not all(isinstance(block, MixerBlock) for block in model.blocks):
        raise SpaceError("of timm's MLP models only those with MixerBlock have a counterpart")
    blocks = tuple(
        Block(
            mixer="token_mlp",
            token_hidden=block.mlp_tokens.fc1.out_features,
            mlp_hidden=block.mlp_channels.fc1.out_features,
        )
        for block in model.blocks
    )
    architecture = Architecture(
        stages=(Stage(model.embed_dim, blocks),),
        pos_embed="none",
        global_pool="avg",
        **_common(model, model.stem, model.blocks[0].mlp_channels.act),
    )
    names = {
        "stem.": "patch_embed.",
        "blocks.": "stages.0.blocks.",
        ".mlp_tokens.": ".token_mlp.",
        ".mlp_channels.": ".mlp.",
    }
    return architecture, _renamed(model.state_dict(), names)


def _swin(model: Any) -> tuple[Architecture, dict[str, Tensor]]:
    stages = tuple(
        Stage(
            layer.blocks[0].dim,
            tuple(
                Block(
                    mixer="window",
                    num_heads=block.attn.num_heads,
                    head_dim=block.attn.qkv.out_features // 3 // block.attn.num_heads,
                    window_size=block.window_size[0],
                    shift=block.shift_size[0] > 0,
                    mlp_hidden=block.mlp.fc1.out_features,
                )
                for block in layer.blocks
            ),
            downsample="merge",
        )
        for layer in model.layers
    )
    architecture = Architecture(
        stages=stages,
        stem_norm=True,
        pos_embed="relative",
        global_pool="avg",
        **_common(model, model.patch_embed, model.layers[0].blocks[0].mlp.act),
    )
    names = {
        "layers.": "stages.",
        "patch_embed.norm.": "norm_pre.",
        "head.fc.": "head.",
        ".relative_position_bias_table": ".bias_table",
    }
    state = _renamed(model.state_dict(), names)
    for name, tensor in state.items():
        if name.endswith("bias_table"):
            side = round(tensor.shape[0] ** 0.5)
            state[name] = tensor.T.unflatten(1, (side, side))
        elif ".downsample." in name:  # four neighbors side by side: ours are within a channel
            state[name] = tensor.unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)
    return architecture, state


def _common(model: Any, embed: Any, act: nn.Module) -> dict[str, Any]:
    """Fields that all families have; `embed` is the patch embedding."""
    acts = {nn.GELU: "gelu", nn.ReLU: "relu", nn.SiLU: "silu", nn.Hardswish: "hardswish"}
    name = next((name for kind, name in acts.items() if isinstance(act, kind)), None)
    if name is None or embed.img_size[0] != embed.img_size[1]:
        raise SpaceError(f"no counterpart for {act} on images of {embed.img_size}")
    norm = next((module for module in model.modules() if isinstance(module, nn.LayerNorm)), None)
    if norm is None:
        raise SpaceError("timm's model has no LayerNorm, the only norm that is converted")
    return {
        "input_size": embed.img_size[0],
        "in_chans": embed.proj.in_channels,
        "num_classes": model.num_classes,
        "patch_size": embed.patch_size[0],
        "norm_eps": norm.eps,
        "act": name,
    }


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Our names, with timm's joint query-key-value layer split in three."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        if ".qkv." in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace(".qkv.", f".{part}.")] = piece
        else:
            found[name] = tensor
    return found
