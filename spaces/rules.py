"""Rules: the combinations that cannot work, each with its reason.

The same rules refuse a hand-written architecture, prune the choices while a candidate is drawn,
and are counted by `SearchSpace.size`. A rule sees the numbers of a block as built, beside those
of its stage and network; it names the fields it looks at, so that only those are tabulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .architecture import Architecture
from .errors import SpaceError
from .mixers import find

GROUP_CHANNELS = 8  # channels that share statistics in group norm


@dataclass(frozen=True, slots=True)
class Rule:
    """A law on some fields of a block and its surroundings.

    Attributes:
        fields: arguments of `holds`: names of Block, Stage or Architecture, and `stage`
            (index), `stages` (number of them) and `grid` (side of the stage's token grid).
        holds: whether the combination works.
        reason: why not; may quote the fields.
    """

    fields: tuple[str, ...]
    holds: Callable[..., bool]
    reason: str


def _uses(mixer: str, *names: str) -> bool:
    return all(name in find(mixer).fields for name in names)


NETWORK_RULES = (
    Rule(
        ("input_size", "patch_size", "stages"),
        lambda size, patch, stages: size > 0 and patch > 0 and size % (patch << stages - 1) == 0,
        "input_size {input_size} must be a multiple of patch_size {patch_size}, doubled by "
        "each stage after the first",
    ),
    Rule(
        ("stem", "patch_size"),
        lambda stem, patch: stem != "conv" or (patch > 1 and patch & (patch - 1) == 0),
        "a conv stem halves the image, so patch_size must be a power of 2, not {patch_size}",
    ),
    Rule(
        ("global_pool", "stages"),
        lambda pool, stages: pool == "avg" or stages == 1,
        "global_pool {global_pool!r} needs one stage: a class token cannot be downsampled",
    ),
)

BLOCK_RULES = (
    Rule(
        ("norm", "width"),
        lambda norm, width: norm != "group" or width % GROUP_CHANNELS == 0,
        f"group norm needs a width that is a multiple of {GROUP_CHANNELS}, not {{width}}",
    ),
    Rule(
        ("global_pool", "mixer"),
        lambda pool, mixer: pool == "avg" or find(mixer).takes_prefix,
        "mixer {mixer!r} cannot carry a class token: use global_pool 'avg'",
    ),
    Rule(
        ("mixer", "num_heads", "head_dim", "width"),
        lambda mixer, heads, dim, width: not _uses(mixer, "num_heads") or (heads > 0 and dim > 0),
        "mixer {mixer!r} needs num_heads, and head_dim or a width that the heads divide, "
        "not num_heads {num_heads} and width {width}",
    ),
    Rule(
        ("mixer", "num_heads", "kv_heads"),
        lambda mixer, heads, kv: not _uses(mixer, "kv_heads") or (kv > 0 and heads % kv == 0),
        "kv_heads {kv_heads} must divide num_heads {num_heads}",
    ),
    Rule(
        ("mixer", "window_size", "grid"),
        lambda mixer, window, grid: not _uses(mixer, "window_size") or 1 <= window <= grid,
        "window_size {window_size} is larger than the token grid of {grid}x{grid}",
    ),
    Rule(
        ("mixer", "kv_pool", "grid"),
        lambda mixer, pool, grid: not _uses(mixer, "kv_pool") or 1 <= pool <= grid,
        "kv_pool {kv_pool} is larger than the token grid of {grid}x{grid}",
    ),
    Rule(
        ("mixer", "kernel_size"),
        lambda mixer, kernel: not _uses(mixer, "kernel_size") or (kernel > 0 and kernel % 2 == 1),
        "kernel_size must be odd, not {kernel_size}",
    ),
    Rule(
        ("mixer", "token_hidden"),
        lambda mixer, hidden: not _uses(mixer, "token_hidden") or hidden > 0,
        "mixer {mixer!r} needs token_mlp_ratio above 0",
    ),
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
        lambda norm, keep: keep == 1 or norm != "group",
        "token_keep {token_keep} shifts the statistics of group norm",
    ),
    Rule(
        ("token_keep", "stage", "stages"),
        lambda keep, stage, stages: keep == 1 or stage == stages - 1,
        "token_keep {token_keep} before the last stage: downsampling needs the whole grid",
    ),
)

GRID_LOST = "mixer {mixer!r} needs the whole token grid, but tokens were dropped before it"


def explain(rule: Rule, values: Mapping[str, Any]) -> str:
    """The reason of a rule that does not hold, with the values it was given."""
    return rule.reason.format(**values)


def problems(architecture: Architecture) -> Iterator[str]:
    """What cannot work in an architecture, one sentence each; nothing if it can."""
    stages = len(architecture.stages)
    network = {"stages": stages} | {
        name: getattr(architecture, name)
        for name in (
            *("input_size", "patch_size", "stem", "global_pool", "norm"),
            "token_reduction",
        )
    }
    yield from _broken(NETWORK_RULES, network, "architecture")
    if network["patch_size"] < 1:
        return
    reduced = False
    for i, stage in enumerate(architecture.stages):
        around = network | {"stage": i, "width": stage.width, "grid": architecture.grid >> i}
        for j, block in enumerate(stage.blocks):
            where = f"architecture.stages[{i}].blocks[{j}]"
            values = around | {name: getattr(block, name) for name in block.__slots__}
            yield from _broken(BLOCK_RULES, values, where)
            if reduced and find(block.mixer).needs_grid:
                yield f"{where}: {GRID_LOST.format(mixer=block.mixer)}"
            reduced |= block.token_keep < 1


def check(architecture: Architecture) -> None:
    """Refuse an architecture that cannot be built.

    Raises:
        SpaceError: the first rule that does not hold.
    """
    for problem in problems(architecture):
        raise SpaceError(problem)


def _broken(rules: tuple[Rule, ...], values: dict[str, Any], where: str) -> Iterator[str]:
    for rule in rules:
        if not rule.holds(*(values[name] for name in rule.fields)):
            yield f"{where}: {explain(rule, values)}"
