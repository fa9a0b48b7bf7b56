"""Schema: the names a space file may use, where each is settled, and how numbers are built.

A field belongs to one level: the network, a stage or a block. In a file it may stand at that
level or further out; where it stands is what shares it. Standing in `blocks` it is drawn anew
for every block, in `groups` for every run of blocks, in a stage once for the stage, at the top
once for the network. A list of `blocks` is of blocks that take turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from functools import cache, lru_cache
from typing import Any

from .architecture import Architecture, Stage
from .block import Block
from .codec import defaults
from .compression import Policy
from .errors import ConfigError
from .exits import NONE
from .lazy import Lazy
from .mixers import fields, find, numbers
from .mixers.spec import Given, kept_units, squeezed
from .parameter import Scalar
from .transforms import policy_transforms


def _policy_of(part: str) -> dict[str, Scalar]:
    """Fields of the policy of a part outside of blocks."""
    return {
        f"{part}_{name}": transform.default
        for name, transform in policy_transforms().items()
        if transform.applies(part, None)
    }


POLICY = Lazy[Scalar](lambda: {name: t.default for name, t in policy_transforms().items()})

NETWORK = Lazy[Scalar](
    lambda: (
        {name: value for name, value in defaults(Architecture).items() if value is not MISSING}
        | _policy_of("stem")
        | _policy_of("head")
    )
)

STAGE = Lazy[Scalar](lambda: _STAGE | _policy_of("downsample"))
_STAGE: dict[str, Scalar] = {
    "depth": 0,  # 0: must be given
    "width": 0,
    "downsample": "conv",
    "downsample_ratio": 4.0,
    "downsample_kernel": 3,
    "downsample_se_ratio": 0.0,
    "downsample_head_dim": 16,
    "stride": 2,
    "stage_act": "",  # that of the network
    "token_keep_at": "",  # block indices, "3,6,9"; empty means every block
    "exits": NONE,  # numbers of blocks, "4,8"
}

BLOCK = Lazy[Scalar](lambda: _block_fields())
CAPACITIES = ("mixer_capacity", "mlp_capacity")  # shares of the tokens that are routed
_BLOCK: dict[str, Scalar] = {
    "mlp_ratio": 4.0,
    "mlp_capacity": 1.0,
    "mixer_capacity": 1.0,
    "token_keep": 1.0,
}

# Numbers that one kind of downsampling has alone, as `Stage` names them.
INSIDE = {
    "downsample_ratio": "downsample_hidden",
    "downsample_kernel": "downsample_kernel",
    "downsample_se_ratio": "downsample_se",
    "downsample_head_dim": "downsample_head_dim",
}
ARCHITECTURE = tuple(name for name, value in defaults(Architecture).items() if value is not MISSING)
LEVELS = (NETWORK, STAGE, BLOCK)
# One value a space: they have no effect on cost, or none that a search should trade.
FIXED = (
    *("in_chans", "num_classes", "norm_eps", "layer_scale", "stem_bias", "stem_norm"),
    *("pre_norm", "post_norm", "registers", "pool_registers", "pool_heads", "pool_mlp_ratio"),
    *("final_norm", "final_eps", "mlp", "mlp_norm", "mlp_bias"),
    *("stride", "stage_act", "head_hidden", "head_norm", "se_gate", "downsample_head_dim"),
)


def _block_fields() -> dict[str, Scalar]:
    """The fields of a block, those of all mixers among them.

    Raises:
        ConfigError: a plugin's mixer has a name that means something else.
    """
    own = {name: number.default for name, number in fields().items()}
    others = _BLOCK | {f"{part}_{n}": POLICY[n] for part in ("mixer", "mlp") for n in POLICY}
    if taken := own.keys() & {"mixer", *others, *POLICY, *STAGE, *NETWORK}:
        raise ConfigError(f"a number of a mixer needs another name than {min(taken)!r}")
    return {"mixer": "softmax"} | own | others


def names() -> list[str]:
    """All that may stand in a space file, the innermost first."""
    return [*BLOCK, *POLICY, *STAGE, *NETWORK]


def level(name: str) -> int | None:
    """0 for a field of the network, 1 of a stage, 2 of a block; None for an unknown name."""
    return 2 if name in POLICY else next((n for n, f in enumerate(LEVELS) if name in f), None)


def default(name: str) -> Scalar:
    """Value of a field that a file does not name."""
    return next(known[name] for known in (*LEVELS, POLICY) if name in known)


def is_fixed(name: str) -> bool:
    """Whether a field takes one value a space."""
    return name in FIXED or (name in fields() and fields()[name].fixed)


def is_inverse(name: str) -> bool:
    """Whether the smallest value of a field makes the largest network."""
    if transform := policy_transforms().get(name):
        return transform.range[0] == transform.default
    return name == "patch_size" or (name in fields() and fields()[name].inverse)


def plain(name: str) -> str:
    """The policy field behind a prefixed one, any other name as it is.

    >>> plain("mlp_weight_bits"), plain("mlp_ratio")
    ('weight_bits', 'mlp_ratio')
    """
    rest = name.partition("_")[2]
    return rest if rest in POLICY else name


@cache
def most_bits(name: str) -> int:
    """Bits of a weight beyond which a field has no effect; 32 for most."""
    transform = policy_transforms().get(plain(name))
    return transform.most_bits if transform else 32


def specific(name: str) -> tuple[str, ...]:
    """The fields that a name stands for: `weight_bits` covers mixer and MLP.

    >>> specific("weight_bits"), specific("mixer")
    (('mixer_weight_bits', 'mlp_weight_bits'), ('mixer',))
    """
    return (f"mixer_{name}", f"mlp_{name}") if name in POLICY else (name,)


def in_use(name: str, mixer: str, has_mlp: bool, bits: int) -> bool:
    """Whether a block field has an effect beside its block's mixer and weight bits.

    Args:
        name: field of `block`.
        mixer: the block's mixer.
        has_mlp: whether `mlp_ratio` is above 0.
        bits: weight bits of the same part of the block, for what `most_bits` is about.
    """
    traits = find(mixer)
    if name in ("mixer", "mlp_ratio", "token_keep"):
        return True
    if name == "mlp_capacity":
        return has_mlp and not traits.is_mlp
    if name == "mixer_capacity":
        return not traits.is_nothing
    rule = plain(name)
    if rule == name:
        return name in traits.spelled
    if bits > most_bits(name):
        return False
    part = name.partition("_")[0]
    if part == "mlp" and (traits.is_mlp or not has_mlp):
        return False
    return policy_transforms()[rule].applies(part, traits)


def build_stage(given: Mapping[str, Any], before: int, blocks: tuple[Block, ...]) -> Stage:
    """A stage from the fields of `STAGE`.

    Args:
        given: field -> value.
        before: width of the stage before it; 0 for the first.
        blocks: of the stage.
    """
    return Stage(
        given["width"],
        blocks,
        given["downsample"],
        given["stride"],
        given["stage_act"],
        exits=given["exits"],
        **{field: inside(name, given[name], before) for name, field in INSIDE.items()},
    )


def inside(name: str, value: Any, before: int) -> int:
    """A number of a downsampling, from a field of `INSIDE`.

    Args:
        name: of the field.
        value: of the field.
        before: width of the stage before.
    """
    if name == "downsample_ratio":
        return int(before * value)
    return squeezed(before, value) if name == "downsample_se_ratio" else value


@lru_cache(maxsize=1 << 16)
def build_block(
    odd: bool, width: int, may_drop: bool, values: tuple[Any, ...]
) -> tuple[Block, Policy, Policy]:
    """A block and the policies of its mixer and MLP.

    Args:
        odd: whether the block's position in the stage is.
        width: channels of the stage.
        may_drop: whether `token_keep_at` has the position.
        values: the fields of `BLOCK` in order.
    """
    given = dict(zip(BLOCK, values, strict=True))
    mixer = given["mixer"]
    traits = find(mixer)
    has_mlp = given["mlp_ratio"] > 0
    policy = {
        part: _policy(part, mixer, has_mlp, *(given[f"{part}_{name}"] for name in POLICY))
        for part in ("mixer", "mlp")
    }
    cut = policy["mixer"].prune_ratio
    built = Block(
        mixer,
        numbers=traits.build(Given(given, width, odd), cut),
        mlp_hidden=kept_units(
            int(width * given["mlp_ratio"]), cut if traits.is_mlp else policy["mlp"].prune_ratio
        ),
        token_keep=given["token_keep"] if may_drop else 1.0,
        mlp_capacity=given["mlp_capacity"] if has_mlp and not traits.is_mlp else 1.0,
        mixer_capacity=1.0 if traits.is_nothing else given["mixer_capacity"],
    )
    return built, policy["mixer"], policy["mlp"]


@lru_cache(maxsize=1 << 16)
def _policy(part: str, mixer: str, has_mlp: bool, bits: int, *values: Any) -> Policy:
    """The policy of a part of a block, with fields that have no effect at their default."""
    given: dict[str, Any] = dict(zip(POLICY, (bits, *values), strict=True))
    return Policy(**{n: v for n, v in given.items() if in_use(f"{part}_{n}", mixer, has_mlp, bits)})


# Which fields settle what is built from several.
_FEEDS: dict[str, tuple[str, ...]] = {
    "mlp_hidden": ("mlp_ratio", "width", "mixer", "mixer_prune_ratio", "mlp_prune_ratio"),
    "mlp_capacity": ("mlp_capacity", "mlp_ratio", "mixer"),
    "mixer_capacity": ("mixer_capacity", "mixer"),
    "token_keep": ("token_keep", "token_keep_at"),
    "grid": ("input_size", "patch_size"),
    "stage": (),
    "stages": (),
    "halvings": (),
}


@cache
def feeds(name: str) -> tuple[str, ...]:
    """The fields that settle a number as built, or a name that a rule looks at."""
    number = numbers().get(name)
    if number is None:
        return _FEEDS.get(name, (name,))
    pruning = ("mixer_prune_ratio",) if number.axis else ()
    return number.field, *number.reads, *pruning, "mixer"


@cache
def positions(text: str) -> frozenset[int]:
    """Block indices of "3,6,9"."""
    return frozenset(int(part) for part in text.split(",") if part)


def kept_at(text: str, index: int) -> bool:
    """Whether `token_keep_at` includes the block of that index; an empty text includes all."""
    return not text or index in positions(text)
