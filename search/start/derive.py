"""A space whose largest member is a given network, with the choices that suit its family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from math import ceil
from typing import Any

import torch
from torch import nn

from ...cost_models import workload
from ...spaces import Architecture, Block, Candidate, SearchSpace, Stage
from ...spaces.architecture import LED_BY
from ...spaces.compression import INTEGER_BITS
from ...spaces.convert import answer_of, from_model
from ...spaces.convert.vision_transformer import exact_ratio
from ...spaces.errors import SpaceError
from ...spaces.mixers import find
from ...spaces.networks import Network
from ...spaces.schema import INSIDE, POLICY, in_use, specific
from ...spaces.supernet import Supernet
from .chosen import with_choices

KEEPS = (1.0, 0.9, 0.7, 0.5)
MLP_CUTS = (0.0, 0.25, 0.5)
PARTS = ("mixer", "mlp")  # of a block
GROUPED = 3  # blocks that share weight bits


def derive_space(network: Network, name: str, search: Sequence[str] = ()) -> SearchSpace:
    """The space of a network: fewer blocks, heads, hidden units, tokens and bits, other mixers.

    The width stays: it is the stream that all pretrained blocks read and write. What the file says
    first is what the network has, so that the largest member is the network.

    Args:
        network: converted.
        name: of the space.
        search: names of the only choices that it has, each layer its own; all that suit by default.

    Raises:
        SpaceError: its blocks differ in more than a space can say, or it has no such choice.
    """
    spec = derived_spec(network.architecture, name)
    if search:
        spec = with_choices(spec, search, policies_of(network.architecture))
    space = SearchSpace(spec)
    if space.largest() != Candidate.uncompressed(network.architecture):
        raise SpaceError(f"{name}: its blocks are of different sizes, which no space can say")
    return space


def difference(space: SearchSpace, network: Network, model: nn.Module) -> float:
    """Largest difference of logits between the largest member, with inherited weights, and a model.

    Shared weights are sorted by importance, as a search would have them.
    """
    supernet, largest = Supernet.from_network(space, network), space.largest()
    a, generator = network.architecture, torch.Generator().manual_seed(1)
    images = torch.randn(2, a.in_chans, a.input_size, a.input_size, generator=generator)
    with torch.no_grad():
        wanted = answer_of(model.eval()(images))
        return float((supernet(largest, images) - wanted).abs().max())


def derived(
    model: nn.Module, name: str, search: Sequence[str] = ()
) -> tuple[SearchSpace, dict[str, Any]]:
    """The space of a foreign model, and facts about its largest member.

    Raises:
        SpaceError: the model has no counterpart in our vocabulary, with the reason; or as
            `derive_space`.
    """
    network = from_model(model)
    space = derive_space(network, name, search)
    largest = space.largest()
    counted = workload(largest)
    return space, {
        "model": name,
        "key": largest.key,
        "params": counted.params,
        "macs": counted.macs,
        "max_abs_difference": difference(space, network, model),
    }


def policies_of(a: Architecture) -> set[str]:
    """Policies that do something to a network, such as `mixer_rank_ratio`, and capacities."""
    names = {field for name in POLICY for field in specific(name)}
    names |= set() if a.norm.startswith("group") else {"mlp_capacity"}
    if not (a.norm.startswith("group") or any(find(b.mixer).uses_grid(b) for b in a.blocks())):
        names.add("mixer_capacity")
    return {
        field
        for block in a.blocks()
        for field in names
        if in_use(field, block.mixer, block.mlp_hidden > 0, INTEGER_BITS)
    }


def derived_spec(a: Architecture, name: str) -> dict[str, Any]:
    """Contents of the space file."""
    own = {
        field.name: getattr(a, field.name)
        for field in fields(a)
        if field.default is not MISSING and getattr(a, field.name) != field.default
    }
    always = ("input_size", "in_chans", "num_classes", "global_pool", "norm_eps")
    spec: dict[str, Any] = {"name": _short(name)}
    spec |= {field: getattr(a, field) for field in always} | own
    spec["patch_size"] = _one_or_many(_patches(a))
    drops = _drops_tokens(a)
    if drops:
        spec["token_reduction"] = ["evit_mean", "random"]
    spec["stages"] = [_stage(a, index, stage, drops) for index, stage in enumerate(a.stages)]
    return spec


def _stage(a: Architecture, index: int, stage: Stage, drops: bool) -> dict[str, Any]:
    depth, period = len(stage.blocks), _period(stage)
    least = max(1, ceil(depth * 2 / 3)) if period == 1 else depth
    spec: dict[str, Any] = {
        "depth": depth if least == depth else {"low": least, "high": depth},
        "width": stage.width,
    }
    if index:
        spec["downsample"] = stage.downsample
        spec |= {"stride": 1} if stage.stride == 1 else {}
        before = a.stages[index - 1].width
        for name, own in INSIDE.items():
            if stage.downsample in LED_BY[own]:
                value = getattr(stage, own)
                spec[name] = value if name == own else exact_ratio(value, before)
    spec |= {"stage_act": stage.act} if stage.act else {}
    turns = [_block(a, index, stage, first) for first in stage.blocks[:period]]
    if period == 1:
        spec |= turns[0][0]
    if drops and index == len(a.stages) - 1:
        spec["token_keep"] = list(KEEPS)
        if places := _places(least):
            spec["token_keep_at"] = places
    weighed = [
        any(in_use(f"{part}_weight_bits", b.mixer, b.mlp_hidden > 0, 32) for part in PARTS)
        for b in stage.blocks
    ]
    if any(weighed):
        spec["act_bits"] = [32, 8]
        spec["groups"] = {"size": _group_size(weighed), "weight_bits": [32, 8, 4]}
    spec["blocks"] = turns[0][1] if period == 1 else [said | own for said, own in turns]
    return spec


def _group_size(weighed: Sequence[bool]) -> int:
    """Neighbors that share bits: `GROUPED`, or as many more as leave no group without weights."""
    for size in range(GROUPED, len(weighed)):
        if all(any(weighed[i : i + size]) for i in range(0, len(weighed), size)):
            return size
    return max(GROUPED, len(weighed))


def _period(stage: Stage) -> int:
    """Number of blocks after which the mixers of a stage begin again, all of them at most."""
    mixers = [block.mixer for block in stage.blocks]
    return next(n for n in range(1, len(mixers) + 1) if mixers[n:] == mixers[: len(mixers) - n])


def _block(
    a: Architecture, index: int, stage: Stage, first: Block
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all blocks like the first one have, and what each of them chooses for itself."""
    said = _numbers(first, stage.width)
    if "shift" in find(first.mixer).fields and not any(block.shift for block in stage.blocks):
        said["shift"] = False
    said["mlp_ratio"] = exact_ratio(first.mlp_hidden, stage.width)
    mixers = _mixers(a, first, index)
    if "grouped" in mixers and first.mixer != "grouped":
        said["kv_heads"] = 1
    if "pooled" in mixers and first.mixer != "pooled":
        said["kv_pool"] = 2
    own: dict[str, Any] = {"mixer": _one_or_many(mixers)}
    if "num_heads" in find(first.mixer).fields:
        own["mixer_prune_ratio"] = _one_or_many(_head_cuts(first.num_heads))
    elif "hidden" in find(first.mixer).pruned:
        own["mixer_prune_ratio"] = list(MLP_CUTS)
    if first.mlp_hidden and not find(first.mixer).is_mlp:
        own["mlp_prune_ratio"] = list(MLP_CUTS)
    return said, own


def _numbers(block: Block, width: int) -> dict[str, Any]:
    """The numbers of a block as a space file says them."""
    said: dict[str, Any] = {}
    for number in find(block.mixer).numbers:
        value = getattr(block, number.name)
        if number.field != number.name:
            said[number.field] = exact_ratio(value, width)
        elif value != number.default and number.name != "shift":
            said[number.name] = value
    return said


def _mixers(a: Architecture, first: Block, index: int) -> list[str]:
    """The mixer that the network has, then cheaper ones that can stand in its place."""
    mixers = [first.mixer]
    side = a.side(index)
    if first.mixer == "softmax":
        if first.num_heads > 1:
            mixers.append("grouped")
        if side > 1:
            mixers += ["pooled", "linear"]
    elif first.mixer == "window":
        mixers.append("linear")
    return mixers


def _patches(a: Architecture) -> list[int]:
    """Patch sizes up to twice the network's; only where no weight is tied to the token count."""
    plain = len(a.stages) == 1 and all(not find(b.mixer).fixed_tokens for b in a.blocks())
    sizes = range(a.patch_size, 2 * a.patch_size + 1) if plain else [a.patch_size]
    return [size for size in sizes if a.input_size % size == 0 and a.input_size // size > 1] or [
        a.patch_size
    ]


def _drops_tokens(a: Architecture) -> bool:
    """Whether tokens can be dropped: not where rotary positions or windows need the grid."""
    return a.grid > 2 and all(
        block.mixer == "softmax" and not block.rope for block in a.stages[-1].blocks
    )


def _places(depth: int) -> list[str]:
    """Blocks after which tokens are dropped: the first quarter, then half, then three quarters."""
    quarter = depth // 4
    if not quarter:
        return []
    return [",".join(str(quarter * k) for k in range(1, n + 1)) for n in (1, 2, 3)]


def _head_cuts(heads: int) -> list[float]:
    """Shares of heads to remove, such that all, two thirds and one third of them stay."""
    kept = sorted({heads, max(1, round(heads * 2 / 3)), max(1, round(heads / 3))}, reverse=True)
    return [round(1 - count / heads, 3) for count in kept]


def _one_or_many(values: list[Any]) -> Any:
    return values if len(values) > 1 else values[0]


def _short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].rpartition(":")[2] or name
