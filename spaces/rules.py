"""Rules: the combinations that cannot work, each with its reason.

The same rules refuse a hand-written architecture, prune the choices while a candidate is drawn,
and are counted by `SearchSpace.size`. A rule sees the numbers of a block as built, beside those
of its stage and network; it names the fields it looks at, so that only those are tabulated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from .architecture import CLASS_TOKENS, HALVING, INVERTED, NORMS, SAME_GRID, Architecture
from .errors import SpaceError
from .exits import NONE, are_inside, is_spelled
from .mixers import MIXERS, find
from .mixers.spec import Rule

_PLAIN_POOLS = ("token", "distill", "avg", "avg_distill")
# Places of the last norm; that of one pooled vector is a layer norm where all is one group.
_FINALS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(NORMS, ("tokens",)),
    **{"group1": ("tokens", "pooled"), "batch": ("tokens", "pooled", "none")},
}
GROUP_CHANNELS = 8  # channels that share statistics in group norm


NETWORK_RULES = (
    Rule(
        ("input_size", "patch_size", "halvings"),
        lambda size, patch, halvings: size > 0 and patch > 0 and size % (patch << halvings) == 0,
        "input_size {input_size} must be a multiple of patch_size {patch_size}, doubled by "
        "each stage after the first",
    ),
    Rule(
        ("stem", "patch_size"),
        lambda stem, patch: stem not in HALVING or (patch > 1 and patch & (patch - 1) == 0),
        "a conv stem halves the image, so patch_size must be a power of 2, not {patch_size}",
    ),
    Rule(
        ("stem", "patch_size"),
        lambda stem, patch: stem != "overlap" or patch > 1,
        "patches of an overlap stem are larger than a pixel, not {patch_size}",
    ),
    Rule(
        ("global_pool", "stages"),
        lambda pool, stages: not CLASS_TOKENS[pool] or stages == 1,
        "global_pool {global_pool!r} needs one stage: a class token cannot be downsampled",
    ),
    Rule(
        ("registers", "stages"),
        lambda registers, stages: not registers or stages == 1,
        "{registers} registers need one stage: they cannot be downsampled",
    ),
    Rule(
        ("pos_embed", "global_pool", "registers"),
        lambda pos, pool, registers: pos != "patches" or registers + CLASS_TOKENS[pool] > 0,
        "pos_embed 'patches' is 'learned' where there are no other tokens: say that",
    ),
    Rule(
        ("final_norm", "global_pool"),
        lambda norm, pool: norm != "pooled" or pool != "token_avg",
        "final_norm 'pooled' does without global_pool 'token_avg', which pools two vectors",
    ),
    Rule(
        ("head_hidden", "global_pool"),
        lambda hidden, pool: not hidden or pool == "avg",
        "head_hidden {head_hidden} goes with global_pool 'avg', not {global_pool!r}",
    ),
    Rule(
        ("head_norm", "head_hidden", "norm"),
        lambda normed, hidden, norm: not normed or (hidden > 0 and norm in ("layer", "rms")),
        "head_norm needs head_hidden above 0 and norm 'layer' or 'rms', not {head_hidden} and "
        "{norm!r}",
    ),
    Rule(
        ("post_norm", "norm", "layer_scale"),
        lambda post, norm, scale: not post or (norm in ("layer", "rms") and not scale),
        "post_norm does with norm 'layer' or 'rms' and without layer_scale, not norm {norm!r}",
    ),
    Rule(
        ("norm", "pre_norm", "final_norm", "mlp_norm", "mlp_bias", "global_pool"),
        lambda norm, pre, final, mlp, bias, pool: (
            norm in ("layer", "rms")
            or (not pre and final in _FINALS[norm] and not mlp and bias and pool in _PLAIN_POOLS)
        ),
        "norm {norm!r} does without pre_norm, mlp_norm, MLPs without biases, final_norm "
        "{final_norm!r}, or global_pool 'map' and 'token_avg'",
    ),
)

STAGE_RULES = (
    Rule(
        ("exits",),
        is_spelled,
        'exits are numbers of blocks from 1 on, ascending, such as "4" or "4,8", not {exits!r}',
    ),
    Rule(
        ("exits", "depth", "stage", "stages"),
        are_inside,
        "exits {exits!r} of {depth} blocks: no block follows the last of them, where the network "
        "answers anyway",
    ),
    Rule(
        ("exits", "num_classes"),
        lambda exits, classes: exits == NONE or classes > 0,
        "exits {exits!r} need classes to answer with, not num_classes {num_classes}",
    ),
)

# Before and after the rules that each mixer brings with it.
_FIRST = (
    Rule(
        ("stem", "stage", "width"),
        lambda stem, stage, width: stem not in ("convs", "mobile") or stage > 0 or width >= 8,
        "a {stem} stem makes at least 8 channels, so width cannot be {width}",
    ),
    Rule(
        ("stage", "downsample", "stride"),
        lambda stage, downsample, stride: not stage or stride == 2 or downsample in SAME_GRID,
        "downsample {downsample!r} halves the grid, so its stride cannot be {stride}",
    ),
    Rule(
        ("stage", "downsample", "downsample_kernel"),
        lambda stage, downsample, kernel: (
            not stage or downsample not in INVERTED or kernel % 2 == 1
        ),
        "downsample_kernel must be odd, not {downsample_kernel}",
    ),
    Rule(
        ("stage", "downsample", "downsample_kernel", "reparam"),
        lambda stage, downsample, kernel, reparam: (
            not stage or downsample not in INVERTED or not reparam or kernel > 1
        ),
        "reparam adds a kernel of 1x1 to larger ones, so downsample_kernel cannot be "
        "{downsample_kernel}",
    ),
    Rule(
        ("norm", "width"),
        lambda norm, width: norm != "group" or width % GROUP_CHANNELS == 0,
        f"group norm needs a width that is a multiple of {GROUP_CHANNELS}, not {{width}}",
    ),
    Rule(
        ("global_pool", "mixer"),
        lambda pool, mixer: not CLASS_TOKENS[pool] or find(mixer).takes_prefix,
        "mixer {mixer!r} cannot carry a class token: use global_pool 'avg'",
    ),
    Rule(
        ("registers", "mixer"),
        lambda registers, mixer: not registers or find(mixer).takes_prefix,
        "mixer {mixer!r} cannot carry registers, got {registers}",
    ),
    Rule(
        ("global_pool", "pool_heads", "width", "stage", "stages"),
        lambda pool, heads, width, stage, stages: (
            pool != "map" or stage < stages - 1 or width % heads == 0
        ),
        "pool_heads {pool_heads} must divide the width, {width}",
    ),
)
_LAST = (
    Rule(
        ("mixer", "mlp_hidden"),
        lambda mixer, hidden: not find(mixer).is_mlp or hidden > 0,
        "mixer {mixer!r} needs mlp_ratio above 0: it is its expansion",
    ),
    Rule(
        ("mixer", "token_keep", "token_reduction"),
        lambda mixer, keep, how: (
            keep == 1
            or (not find(mixer).needs_grid and (how == "random" or find(mixer).ranks_tokens))
        ),
        "token_keep {token_keep} cannot follow mixer {mixer!r}, which has no attention map of "
        "all tokens to rank them by",
    ),
    Rule(
        ("norm", "token_keep"),
        lambda norm, keep: keep == 1 or not norm.startswith("group"),
        "token_keep {token_keep} shifts the statistics of group norm",
    ),
    Rule(
        ("norm", "mlp_capacity"),
        lambda norm, capacity: capacity == 1 or not norm.startswith("group"),
        "mlp_capacity {mlp_capacity} shifts the statistics of group norm, which are those of all "
        "tokens together",
    ),
    Rule(
        ("norm", "mixer_capacity"),
        lambda norm, capacity: capacity == 1 or not norm.startswith("group"),
        "mixer_capacity {mixer_capacity} shifts the statistics of group norm, which are those of "
        "all tokens together",
    ),
    Rule(
        ("mixer", "mixer_capacity"),
        lambda mixer, capacity: capacity == 1 or not find(mixer).needs_grid,
        "mixer_capacity {mixer_capacity} takes some of the tokens alone, but mixer {mixer!r} "
        "needs the whole token grid",
    ),
    Rule(
        ("token_keep", "mixer_capacity"),
        lambda keep, capacity: keep == 1 or capacity == 1,
        "token_keep {token_keep} ranks tokens by the attention of all of them, of which "
        "mixer_capacity {mixer_capacity} leaves some out: drop them in another block",
    ),
    Rule(
        ("token_keep", "stage", "stages"),
        lambda keep, stage, stages: keep == 1 or stage == stages - 1,
        "token_keep {token_keep} before the last stage: downsampling needs the whole grid",
    ),
)

# What rules look at, of a stage and of a block.
_OF_STAGE = ("width", "downsample", "stride", "downsample_kernel")
_OF_BLOCK = ("mixer", "mlp_hidden", "token_keep", "mlp_capacity", "mixer_capacity")
GRID_LOST = "mixer {mixer!r} needs the whole token grid, but tokens were dropped before it"


@cache
def block_rules() -> tuple[Rule, ...]:
    """The rules of every block, and those of each mixer for blocks that have it."""
    owners: dict[Rule, list[str]] = {}
    for name in MIXERS:
        for rule in find(name).rules:
            owners.setdefault(rule, []).append(name)
    return *_FIRST, *(_of(names, rule) for rule, names in owners.items()), *_LAST


def _of(mixers: Iterable[str], rule: Rule) -> Rule:
    """A rule of some mixers as one that every block keeps."""
    own = frozenset(mixers)
    return Rule(
        ("mixer", *rule.fields),
        lambda mixer, *values: mixer not in own or rule.holds(*values),
        rule.reason,
    )


def explain(rule: Rule, values: Mapping[str, Any]) -> str:
    """The reason of a rule that does not hold, with the values it was given."""
    return rule.reason.format(**values)


def problems(architecture: Architecture) -> Iterator[str]:
    """Reasons why an architecture cannot work, one sentence each; none if it can."""
    stages = len(architecture.stages)
    network: dict[str, Any] = {
        field.name: getattr(architecture, field.name) for field in fields(architecture)
    }
    network["stages"] = stages
    network["halvings"] = architecture.halvings
    yield from _broken(NETWORK_RULES, network, "architecture")
    if network["patch_size"] < 1:
        return
    reduced = False
    for i, stage in enumerate(architecture.stages):
        around = network | {"stage": i, "grid": architecture.side(i)}
        around |= {name: getattr(stage, name) for name in _OF_STAGE}
        own = {"exits": stage.exits, "depth": len(stage.blocks)}
        yield from _broken(STAGE_RULES, around | own, f"architecture.stages[{i}]")
        for j, block in enumerate(stage.blocks):
            where = f"architecture.stages[{i}].blocks[{j}]"
            mixer = find(block.mixer)
            names = (*_OF_BLOCK, *mixer.fields)
            values = around | {name: getattr(block, name) for name in names}
            yield from _broken((*_FIRST, *mixer.rules, *_LAST), values, where)
            if reduced and mixer.uses_grid(block):
                yield f"{where}: {GRID_LOST.format(mixer=block.mixer)}"
            reduced |= block.token_keep < 1


def check(architecture: Architecture) -> None:
    """Refuse an architecture that cannot be built.

    Raises:
        SpaceError: the first rule that does not hold.
    """
    for problem in problems(architecture):
        raise SpaceError(problem)


def _broken(rules: Iterable[Rule], values: dict[str, Any], where: str) -> Iterator[str]:
    for rule in rules:
        if not rule.holds(*(values[name] for name in rule.fields)):
            yield f"{where}: {explain(rule, values)}"
