"""ViT, DeiT, DINOv2 and DINOv3 of Hugging Face's transformers, with their classifiers or without.

Without one, the features are the class token after the last norm; poolers are left out.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from ..architecture import Architecture, Stage
from ..block import Block
from ..networks import Network
from .parts import act_of, network_of, norm_of, side_of

BODIES = ("vit", "deit", "dinov2", "dinov2_with_registers")
NAMES = {
    r"^(vit|deit|dinov2|dinov2_with_registers)\.": "",
    r"^embeddings\.cls_token": "cls_token",
    r"^embeddings\.distillation_token": "dist_token",
    r"^embeddings\.register_tokens": "reg_token",
    r"^embeddings\.position_embeddings": "pos_embed",
    r"^embeddings\.patch_embeddings\.(projection\.)?": "patch_embed.proj.",
    r"^(layers|encoder\.layer|model\.layer)\.": "stages.0.blocks.",
    r"\.attention\.o_proj\.": ".attn.proj.",
    r"\.attention\.([qkv])_proj\.": r".attn.\1.",
    r"\.layer_scale(\d)\.lambda1": r".ls\1.gamma",
    r"\.layernorm_before\.": ".norm1.",
    r"\.layernorm_after\.": ".norm2.",
    r"\.mlp\.gate_proj\.": ".mlp.fc1_g.",
    r"\.mlp\.down_proj\.": ".mlp.fc2.",
    r"^layernorm\.": "norm.",
    r"^(cls_)?classifier\.": "head.",
    r"^distillation_classifier\.": "head_dist.",
}
LEFT_OUT = ("pooler.", "embeddings.mask_token")  # which the answer does not depend on


def convert(model: Any) -> Network:
    """A vision transformer with its classifier, or its backbone alone."""
    body = next((getattr(model, name) for name in BODIES if hasattr(model, name)), model)
    config = model.config
    layers = _layers(body)
    first = layers[0]
    state = _renamed(model.state_dict(), hasattr(first.mlp, "gate_proj"))
    is_distilled = "head_dist.weight" in state
    if "dist_token" in state and not is_distilled:  # nothing but attention reads it
        state["reg_token"] = state.pop("dist_token")
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    side, patch = side_of(config.image_size, "images"), side_of(config.patch_size, "patches")
    pos_embed, patches = "none", (side // patch) ** 2
    if (table := state.get("pos_embed")) is not None:
        pos_embed = "learned"
        if table.shape[1] == 1 + patches and registers:  # registers come after it was added
            pos_embed = "patches"
            state["cls_token"] = state["cls_token"] + table[:, :1]
            state["pos_embed"] = table[:, 1:]
    head = state.get("head.weight")
    width = config.hidden_size
    pools_both = head is not None and head.shape[1] == 2 * width
    rotary = _rotary(config) if hasattr(body, "rope_embeddings") else {}
    last = first.mlp.down_proj if hasattr(first.mlp, "down_proj") else first.mlp.fc2
    architecture = Architecture(
        stages=(Stage(width, tuple(_block(layer, config, rotary) for layer in layers)),),
        input_size=side,
        in_chans=config.num_channels,
        num_classes=0 if head is None else len(head),
        patch_size=patch,
        registers=registers,
        pos_embed=pos_embed,
        global_pool="distill" if is_distilled else "token_avg" if pools_both else "token",
        act=act_of(_activation(first.mlp)),
        mlp="glu" if hasattr(first.mlp, "gate_proj") else "plain",
        mlp_bias=last.bias is not None,
        layer_scale="stages.0.blocks.0.ls1.gamma" in state,
        **norm_of(body.layernorm if hasattr(body, "layernorm") else body.norm),
    )
    return network_of(architecture, state)


def _layers(body: Any) -> Any:
    if hasattr(body, "layers"):
        return body.layers
    return body.encoder.layer if hasattr(body, "encoder") else body.model.layer


def _block(layer: Any, config: Any, rotary: dict[str, Any]) -> Block:
    attention, heads = layer.attention, config.num_attention_heads
    last = layer.mlp.down_proj if hasattr(layer.mlp, "down_proj") else layer.mlp.fc2
    parts = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "all": "o_proj"}
    lacking = [name for name, part in parts.items() if getattr(attention, part).bias is None]
    return Block(
        "softmax",
        num_heads=heads,
        head_dim=config.hidden_size // heads,
        mlp_hidden=last.in_features,
        no_bias="all" if "all" in lacking else "".join(lacking),
        **rotary,
    )


def _rotary(config: Any) -> dict[str, Any]:
    return {"rope": "centered", "rope_base": float(config.rope_theta)}


def _activation(mlp: Any) -> Any:
    names = ("activation_fn", "activation", "act_fn")
    return next(getattr(mlp, name) for name in names if hasattr(mlp, name))


def _renamed(state: dict[str, Tensor], gated: bool) -> dict[str, Tensor]:
    up = "fc1_x" if gated else "fc1"
    names = NAMES | {r"\.mlp\.up_proj\.": f".mlp.{up}."}
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if any(part in name for part in LEFT_OUT):
            continue
        for old, new in names.items():
            name = re.sub(old, new, name)
        renamed[name] = tensor
    return renamed
