"""timm's VisionTransformer and Eva: ViT, DeiT, DINOv2 and v3, CLIP, SigLIP, EVA-02, PE, ..."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..architecture import Architecture, Stage
from ..block import Block
from ..errors import SpaceError
from ..networks import Network
from .parts import act_of, embed_fields, kind_of_norm, network_of, norm_of, renamed

NAMES = {
    "blocks.": "stages.0.blocks.",
    "patch_embed.norm.": "norm_stem.",
    ".gamma_1": ".ls1.gamma",
    ".gamma_2": ".ls2.gamma",
    ".q_proj.": ".q.",
    ".k_proj.": ".k.",
    ".v_proj.": ".v.",
    ".q_bias": ".q.bias",
    ".v_bias": ".v.bias",
}
POOLS = ("token", "avg", "map")


def convert(model: Any) -> Network:
    """A plain vision transformer.

    Raises:
        SpaceError: a variant that the vocabulary does not have, with the reason.
    """
    first = model.blocks[0]
    pool = model.global_pool
    if pool not in POOLS:
        raise SpaceError(f"the model pools by {pool!r}; what converts pools by {', '.join(POOLS)}")
    if pool == "map" and type(model.attn_pool).__name__ != "AttentionPoolLatent":
        raise SpaceError(f"no counterpart for pooling by {type(model.attn_pool).__name__}")
    distilled = getattr(model, "dist_token", None) is not None
    held = dict(model.state_dict())
    registers = _registers(held, pool)
    state = _split_gates(renamed(held, NAMES), model)
    norms = [kind for kind in ("norm", "fc_norm") if kind_of_norm(getattr(model, kind))]
    if len(norms) == 2:
        raise SpaceError("the model has norms before and after pooling, not one of them")
    positions, prefix = held.get("pos_embed"), model.num_prefix_tokens
    patches = model.patch_embed.num_patches
    only_patches = positions is not None and prefix and positions.shape[1] == patches
    rotary = _rotary(getattr(model, "rope", None))
    blocks = tuple(_block(block, rotary) for block in model.blocks)
    is_glu = _gates(first.mlp) is not None
    architecture = Architecture(
        stages=(Stage(model.embed_dim, blocks),),
        stem_bias=model.patch_embed.proj.bias is not None,
        stem_norm=bool(kind_of_norm(model.patch_embed.norm)),
        registers=registers,
        pos_embed="none" if positions is None else "patches" if only_patches else "learned",
        pre_norm=not isinstance(model.norm_pre, nn.Identity),
        global_pool="distill" if distilled else pool,
        # Eva's attention pooling always sees all tokens.
        pool_registers=getattr(model, "pool_include_prefix", pool == "map"),
        **(_pool_fields(model.attn_pool) if pool == "map" else {}),
        final_norm={"norm": "tokens", "fc_norm": "pooled"}[norms[0]] if norms else "none",
        act=act_of(first.mlp.act),
        mlp="glu" if is_glu else "plain",
        mlp_norm=bool(kind_of_norm(getattr(first.mlp, "norm", nn.Identity()))),
        mlp_bias=first.mlp.fc2.bias is not None,
        layer_scale="stages.0.blocks.0.ls1.gamma" in state,
        **norm_of(first.norm1),
        **embed_fields(model, model.patch_embed),
    )
    if rotary:
        for index, block in enumerate(model.blocks):
            _reorder(state, f"stages.0.blocks.{index}.attn.", block.attn, model.rope)
    return network_of(architecture, state)


def _block(block: Any, rotary: dict[str, Any]) -> Block:
    attn = block.attn
    numbers: dict[str, Any] = {
        "num_heads": attn.num_heads,
        "head_dim": attn.head_dim,
        "no_bias": _no_bias(attn),
        "qk_norm": kind_of_norm(attn.q_norm),
        "out_norm": kind_of_norm(getattr(attn, "norm", nn.Identity())),
        **rotary,
    }
    kv_heads = getattr(attn, "num_kv_heads", attn.num_heads)
    grouped = {} if kv_heads == attn.num_heads else {"kv_heads": kv_heads}
    mixer = "grouped" if grouped else "softmax"
    return Block(mixer, mlp_hidden=block.mlp.fc2.in_features, **numbers, **grouped)


def _no_bias(attn: Any) -> str:
    if getattr(attn, "qkv", None) is not None:
        joint = attn.qkv.bias is not None
        biases = [joint or getattr(attn, f"{name}_bias", None) is not None for name in "qv"]
        has = {"q": biases[0], "k": joint, "v": biases[1], "proj": attn.proj.bias is not None}
    else:
        has = {name: getattr(attn, f"{name}_proj").bias is not None for name in "qkv"}
        has["proj"] = attn.proj.bias is not None
    lacking = "".join(name for name, there in has.items() if not there)
    named = {"": "", "k": "k", "qkv": "qkv", "qkvproj": "all"}
    if lacking not in named:
        raise SpaceError(f"no counterpart for attention whose layers {lacking} have no bias")
    return named[lacking]


def _registers(held: dict[str, Tensor], pool: str) -> int:
    """Number of tokens that pooling takes for no class; a class token that it does not read is one.

    They become one parameter.
    """
    tokens = [held.pop("reg_token")] if "reg_token" in held else []
    if pool != "token" and "cls_token" in held:
        tokens.insert(0, held.pop("cls_token"))
    if tokens:
        held["reg_token"] = torch.cat(tokens, 1)
    return sum(token.shape[1] for token in tokens)


def _pool_fields(pool: Any) -> dict[str, Any]:
    return {
        "pool_heads": pool.num_heads,
        "pool_mlp_ratio": exact_ratio(pool.mlp.fc1.out_features, pool.proj.out_features),
    }


def exact_ratio(units: int, width: int) -> float:
    """A ratio of which `int(width * ratio)` is the number of units.

    >>> exact_ratio(512, 192), exact_ratio(768, 192)
    (2.6666666666666665, 4.0)
    """
    ratio = units / width
    return ratio if int(width * ratio) == units else (units + 0.5) / width


def _rotary(rope: Any) -> dict[str, Any]:
    if rope is None:
        return {}
    kind = {"RotaryEmbeddingCat": "index", "RotaryEmbeddingDinoV3": "centered"}.get(
        type(rope).__name__
    )
    if kind is None or getattr(rope, "in_pixels", False) or rope.temperature is None:
        raise SpaceError(f"no counterpart for positions by {type(rope).__name__}")
    reference = getattr(rope, "ref_feat_shape", None)
    return {
        "rope": kind,
        "rope_base": float(rope.temperature),
        "rope_offset": float(rope.grid_offset),
        "rope_size": int(reference[0]) if reference else 0,
    }


def _reorder(state: dict[str, Tensor], start: str, attn: Any, rope: Any) -> None:
    """Put channels of queries and keys into our order of rotary pairs; products stay the same."""
    dim = attn.head_dim
    bands = dim // 4
    frequencies = torch.arange(2 * bands)
    if rope.grid_indexing == "xy":  # columns before rows
        frequencies = (frequencies + bands) % (2 * bands)
    half = getattr(attn, "rotate_half", False)
    parts = (frequencies, frequencies + 2 * bands)
    order = torch.cat(parts if half else (2 * frequencies, 2 * frequencies + 1))
    for name in _turned(start):
        if name in state:
            heads = state[name].unflatten(0, (-1, dim))
            state[name] = heads[:, order].flatten(0, 1)


def _turned(start: str) -> Iterator[str]:
    for layer in ("q", "k", "q_norm", "k_norm"):
        yield from (f"{start}{layer}.{part}" for part in ("weight", "bias"))


def _gates(mlp: Any) -> tuple[str, str] | None:
    """Names of the layer whose activation is taken and of the other; None for a plain MLP."""
    if hasattr(mlp, "fc1_g"):
        return "fc1_g", "fc1_x"
    if type(mlp).__name__ == "GluMlp":
        return ("fc1_x", "fc1_g") if mlp.gate_last else ("fc1_g", "fc1_x")
    return None


def _split_gates(state: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Split joint first layers of gated MLPs."""
    split: dict[str, Tensor] = {}
    for name, tensor in state.items():
        *_, number, part, layer, _ = f"....{name}".split(".")
        gates = None
        if part == "mlp" and layer == "fc1" and number.isdigit():
            gates = _gates(model.blocks[int(number)].mlp)
        if gates is None:
            split[name] = tensor
        else:
            for gate, piece in zip(gates, tensor.chunk(2), strict=True):
                split[name.replace("fc1", gate)] = piece
    return split
