"""Derive: the space whose largest network is a given one, with the choices that make it smaller."""

from __future__ import annotations

from typing import Any

from .architecture import Architecture, Stage
from .candidate import Candidate
from .errors import SpaceError
from .mixers import find
from .schema import ARCHITECTURE
from .space import SearchSpace

SHALLOWEST = 2 / 3  # of the depth; a network that is pruned in depth alone falls fast below
KEEP = [1.0, 0.7, 0.5]  # shares of the tokens that are kept
PRUNED = [0.0, 0.25, 0.5]  # shares of hidden units and, as far as they divide, of heads
BITS = {"weight_bits": [32, 8], "act_bits": [32, 8]}
RUN = 2  # blocks that share their weight bits
MANY = 256  # tokens beyond which attention takes so much time that another mixer may pay


def derived_space(architecture: Architecture, name: str) -> SearchSpace:
    """The space of a network and its smaller relatives.

    Depth, heads, hidden units and bits are choices everywhere; patches twice as large and dropped
    tokens where the network has one stage of plain attention; other mixers where it has many
    tokens, too.

    Args:
        architecture: of the largest network, with stages whose blocks are alike.
        name: of the space.

    Raises:
        SpaceError: no space file can describe the network.
    """
    a = architecture
    fixed: dict[str, Any] = {field: getattr(a, field) for field in ARCHITECTURE}
    plain = len(a.stages) == 1 and all(b.mixer == "softmax" for b in a.blocks())
    if plain and a.pos_embed != "none" and a.grid % 2 == 0:
        fixed["patch_size"] = [a.patch_size, 2 * a.patch_size]
    stages = [_stage(stage, plain, a.grid**2) for stage in a.stages]
    space = SearchSpace({"name": name, **fixed, "stages": stages})
    if Candidate.uncompressed(a) not in space:
        raise SpaceError(f"no space can be derived from {name}: name a space file that holds it")
    return space


def _stage(stage: Stage, plain: bool, tokens: int) -> dict[str, Any]:
    """A stage of the file."""
    depth, first = len(stage.blocks), stage.blocks[0]
    numbers = {n: v for n, v in first.numbers if n in find(first.mixer).fields}
    fields: dict[str, Any] = {
        "depth": {"low": max(1, round(SHALLOWEST * depth)), "high": depth},
        "width": stage.width,
        "downsample": stage.downsample,
        **numbers,
        "mlp_ratio": first.mlp_hidden / stage.width,
        "act_bits": BITS["act_bits"],
        "groups": {"size": RUN, "weight_bits": BITS["weight_bits"]},
        "blocks": {"mixer": first.mixer, "mlp_prune_ratio": PRUNED},
    }
    heads = getattr(first, "num_heads", 0)
    if shares := [share for share in PRUNED if heads and heads * share % 1 == 0][1:]:
        fields["blocks"]["mixer_prune_ratio"] = [0.0, *shares]
    elif heads > 1:
        fields["blocks"]["mixer_prune_ratio"] = [0.0, round(1 / heads, 2)]
    if plain and depth > 1:
        early, late = max(0, depth // 4 - 1), depth // 2
        fields["token_keep"] = KEEP
        fields["token_keep_at"] = [str(early), f"{early},{late}"] if late > early else str(early)
    if plain and tokens > MANY:
        fields["blocks"]["mixer"] = ["softmax", "pooled", "linear"]
        fields["kv_pool"] = 2
    return fields
