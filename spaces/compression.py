"""Compression: the policies for weights and activations of every part of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .errors import UnknownNameError
from .parameter import Scalar
from .transforms import Transform, policy_transforms

INTEGER_BITS = 8  # at most this many bits are integers; 16 and 32 are floats


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Policy:
    """Compression of one sub-block: a value for each transform that does something to it.

    Every field of a transform is an attribute: `policy.sparsity` is 0.0 where nothing is said.
    Equal policies are the same object, as a search looks them up all the time.

    Args:
        weight_bits: bits of a weight; 32 is float32.
        act_bits: bits of the activations that enter linear layers. Integer activations need
            integer weights: beside float weights this becomes 32.
        others: fields of other transforms with their values; those that have no effect beside so
            many bits are left out.
        fields: the same by name, such as `rank_ratio=0.5`; these win.

    Attributes:
        weight_bits: bits of a weight.
        act_bits: bits of an activation.
        others: the other fields that are not at their default, sorted by name.

    Raises:
        UnknownNameError: no transform has that field.
    """

    weight_bits: int
    act_bits: int
    others: tuple[tuple[str, Scalar], ...]

    def __new__(
        cls,
        weight_bits: int = 32,
        act_bits: int = 32,
        others: tuple[tuple[str, Scalar], ...] = (),
        **fields: Scalar,
    ) -> Policy:
        """The one policy with these values."""
        if fields:
            others = _changed(tuple((dict(others) | fields).items()))
        if others:
            others = _beside(weight_bits, others)
        values = weight_bits, act_bits if weight_bits <= INTEGER_BITS else 32, others
        if values not in _POLICIES:
            new = super().__new__(cls)
            new.__dict__.update(zip(("weight_bits", "act_bits", "others"), values, strict=True))
            _POLICIES.setdefault(values, new)
        return _POLICIES[values]

    def __reduce__(self) -> tuple[type[Policy], tuple[Any, ...]]:
        return Policy, (self.weight_bits, self.act_bits, self.others)

    def __getattr__(self, name: str) -> Any:
        """A field that is not weight or activation bits, the first time it is asked for."""
        transform = policy_transforms().get(name)
        if transform is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = self.__dict__[name] = dict(self.others).get(name, transform.default)
        return value

    def __repr__(self) -> str:
        bits = f"{self.weight_bits}, {self.act_bits}" if self.act_bits < 32 else self.weight_bits
        return f"Policy({', '.join([str(bits), *(f'{n}={v!r}' for n, v in self.others)])})"

    def changes(self) -> dict[str, Any]:
        """The fields that are not at their default, bits first, others by name."""
        bits = {"weight_bits": self.weight_bits, "act_bits": self.act_bits}
        return {name: value for name, value in bits.items() if value != 32} | dict(self.others)

    def only(self, keep: Callable[[Transform], bool]) -> Policy:
        """The same bits, and of the other fields those whose transforms are kept."""
        known = policy_transforms()
        kept = tuple(pair for pair in self.others if keep(known[pair[0]]))
        return self if kept == self.others else Policy(self.weight_bits, self.act_bits, kept)


_POLICIES: dict[tuple[int, int, tuple[tuple[str, Scalar], ...]], Policy] = {}


@lru_cache(maxsize=1 << 12)
def _changed(fields: tuple[tuple[str, Scalar], ...]) -> tuple[tuple[str, Scalar], ...]:
    """Fields that are not at their default, sorted by name."""
    known = policy_transforms()
    for name, _ in fields:
        if name not in known:
            raise UnknownNameError("transform", name, known)
    return tuple(sorted((n, v) for n, v in fields if v != known[n].default))


@lru_cache(maxsize=1 << 12)
def _beside(
    weight_bits: int, others: tuple[tuple[str, Scalar], ...]
) -> tuple[tuple[str, Scalar], ...]:
    """Fields that have an effect beside so many bits."""
    known = policy_transforms()
    return tuple((n, v) for n, v in others if weight_bits <= known[n].most_bits)


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """Policies of a stage: mixer and MLP of every block, and the downsampling before it."""

    mixer: tuple[Policy, ...]
    mlp: tuple[Policy, ...]
    downsample: Policy = Policy()


@dataclass(frozen=True)
class Compression:
    """Policies of every part of a network."""

    stages: tuple[StagePolicy, ...]
    stem: Policy = Policy()
    head: Policy = Policy()
