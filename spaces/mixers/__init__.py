"""The registry of mixers: a file each, without torch, and their modules in `networks`.

A new mixer is one file here with a `SPEC`, its module, and one line in `MIXERS`; a plugin's needs
one file and an entry point of the group `vitpareto.mixers`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from ..block import Block
from ..errors import ConfigError, SpaceError, did_you_mean
from ..registry import Registry
from .spec import Given, Mixer, Number, Rule

# What the file of a mixer, and tests of it, need.
__all__ = ["Given", "Mixer", "Number", "Rule", "find"]

MIXERS: Registry[Mixer] = Registry(
    "mixer",
    {
        "softmax": ".softmax:SPEC",
        "grouped": ".grouped:SPEC",
        "pooled": ".pooled:SPEC",
        "window": ".window:SPEC",
        "cosine_window": ".cosine_window:SPEC",
        "linear": ".linear:SPEC",
        "token_mlp": ".token_mlp:SPEC",
        "token_linear": ".token_linear:SPEC",
        "pool": ".pool:SPEC",
        "pool_raw": ".pool_raw:SPEC",
        "pool_scaled": ".pool_scaled:SPEC",
        "star_mlp": ".star_mlp:SPEC",
        "norm2d": ".norm2d:SPEC",
        "mbconv": ".mbconv:SPEC",
        "mbconv_act": ".mbconv_act:SPEC",
        "mbconv_bias": ".mbconv_bias:SPEC",
        "separable": ".separable:SPEC",
        "depthwise": ".depthwise:SPEC",
        "depthwise_residual": ".depthwise_residual:SPEC",
        "identity": ".identity:SPEC",
        "identity2d": ".identity2d:SPEC",
        "linformer": ".linformer:SPEC",
        "performer": ".performer:SPEC",
        "banded": ".banded:SPEC",
        "halo": ".halo:SPEC",
        "focal": ".focal:SPEC",
        "aggregate": ".aggregate:SPEC",
        "unfold": ".unfold:SPEC",
        "mobilevit": ".mobilevit:SPEC",
        "mobilevit2": ".mobilevit2:SPEC",
        "multiscale_linear": ".multiscale_linear:SPEC",
        "cascaded": ".cascaded:SPEC",
        "cascaded_window": ".cascaded_window:SPEC",
        "fused_mbconv": ".fused_mbconv:SPEC",
        "conv_next": ".conv_next:SPEC",
        "conv_mlp": ".conv_mlp:SPEC",
        "talking_heads": ".talking_heads:SPEC",
        "levit": ".levit:SPEC",
        "normed_mlp": ".normed_mlp:SPEC",
    },
    __name__,
)


@cache
def find(name: str) -> Mixer:
    """The mixer of that name.

    Raises:
        UnknownNameError: no such mixer; the message names the closest one.
        ConfigError: a plugin's mixer cannot be loaded.
    """
    return MIXERS.find(name)


def attribute_of(name: str) -> str:
    """Name of a mixer's module in its block."""
    return find(name).attribute or name


@cache
def numbers() -> dict[str, Number]:
    """The numbers of all mixers by their name in `Block`.

    Raises:
        ConfigError: two mixers mean different things by one name.
    """
    by_name: dict[str, Number] = {}
    for mixer in MIXERS:
        for number in find(mixer).numbers:
            known = by_name.setdefault(number.name, number)
            if known is not number:
                raise ConfigError(
                    f"mixer {mixer!r}: its number {number.name!r} is not that of the mixers "
                    "before it; take theirs, or another name"
                )
    return by_name


@cache
def fields() -> dict[str, Number]:
    """The same numbers by their name in space files.

    Raises:
        ConfigError: two numbers have one name there.
    """
    by_field = {number.field: number for number in numbers().values()}
    if len(by_field) < len(numbers()):
        left = next(n for n in numbers().values() if by_field[n.field] is not n)
        raise ConfigError(f"two numbers of mixers are named {left.field!r} in space files")
    return by_field


@cache
def block_defaults() -> dict[str, Any]:
    """Arguments of `Block` by name, with their defaults."""
    named = {number.name: number.kind() for number in numbers().values()}
    shares = {"token_keep": 1.0, "mlp_capacity": 1.0, "mixer_capacity": 1.0}
    return {"mixer": "softmax", "mlp_hidden": 0} | shares | named


@lru_cache(maxsize=1 << 16)
def canonical(block: Block) -> Block:
    """The same block without the numbers that its mixer does not have, or its MLP.

    Raises:
        SpaceError: a number that no mixer has.
    """
    mixer = find(block.mixer)
    if block.mlp_capacity != 1 and (mixer.is_mlp or not block.mlp_hidden):
        block = replace(block, mlp_capacity=1.0)
    if block.mixer_capacity != 1 and mixer.is_nothing:
        block = replace(block, mixer_capacity=1.0)
    own = mixer.fields
    kept = tuple(pair for pair in block.numbers if pair[0] in own)
    if len(kept) == len(block.numbers):
        return block
    for name, _ in block.numbers:
        if name not in numbers():
            raise SpaceError(f"no mixer has a number {name!r}. {did_you_mean(name, numbers())}")
    return replace(block, numbers=kept)
