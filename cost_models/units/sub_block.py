"""Sub-blocks: units of work, each with its key and its exact counts.

The sub-block (norm + mixer + add, norm + MLP + add, stem, downsampling, head) is the unit of
measurement: built from the same modules as the network, so that what a runtime fuses is inside
the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from ...spaces import Block, Place, Policy
from ...spaces.errors import CostError
from ...spaces.mixers import find
from ...spaces.ops import Op
from ...spaces.transforms import policy_transforms
from .operations import ops_of
from .signature import Signature, described_by

FLOAT_BYTES = 4
LONG = 1 << 12  # inputs of a layer whose share of zeros is that of any
_BETWEEN = ("stem", "mlp", "head")
_NUMBERS = ("inputs", "outputs", "patch_size", "pool_heads", "pool_hidden")


@dataclass(frozen=True, slots=True)
class SubBlock(Signature):
    """One unit of work."""

    @property
    def key(self) -> str:
        """Canonical text: kind, variant and all numbers that differ from their default."""
        p = self.place
        parts = [f"norm={self.norm}", f"act={p.act}", f"width={p.width}", f"grid={p.grid[0]}"]
        parts += [f"{n}={getattr(self, n)}" for n in _NUMBERS if getattr(self, n)]
        if p.tokens != p.grid[0] * p.grid[1] or p.kept != p.tokens:
            parts += [f"tokens={p.tokens}", f"kept={p.kept}"]
        parts += [f"routed={p.routed}"] if p.routed else []
        parts += [f"mixed={p.mixed}"] if p.mixed else []
        parts += [f"prefix={p.prefix}"] if p.prefix else []
        parts += [f"registers={p.registers}"] if p.registers else []
        if mixer := self.described:
            numbers = dict(p.block.numbers)
            parts += [f"{n}={numbers[n]}" for n in mixer.fields if n in numbers]
        if p.block.mlp_hidden:
            parts.append(f"mlp_hidden={p.block.mlp_hidden}")
        parts += [f"{n}={v}" for n, v in self.policy.changes().items()]
        parts += ["relative"] if self.is_relative else []
        # A mixer's layout is its own; stem, MLP and head take that of the block beside them.
        parts += ["layout=grid"] if self.kind in _BETWEEN and self.layout == "grid" else []
        return f"{self.kind}/{self.variant}?{'&'.join([*parts, *self.flags])}"

    @classmethod
    def parse(cls, key: str) -> SubBlock:
        """Inverse of `key`, up to what has no effect on cost.

        Raises:
            CostError: the text is not a key.
        """
        return _parse(key)

    def ops(self) -> list[Op]:
        """Operations for one image, low-rank factors included."""
        return ops_of(self)

    @property
    def params(self) -> int:
        """Weights, biases, norms and tables."""
        return sum(op.weights + op.others for op in self.ops())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(op.macs for op in self.ops())

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters: matrices and kernels at their bits, all else in float32."""
        bits = sum(op.weights for op in self.ops()) * weight_bits(self.policy)
        return ceil(bits / 8) + FLOAT_BYTES * sum(op.others for op in self.ops())

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written by one image if every op goes to memory: the upper bound."""
        activations = sum(op.reads + op.writes for op in self.ops())
        return FLOAT_BYTES * activations + self.weight_bytes


@lru_cache(maxsize=1 << 14)
def _parse(key: str) -> SubBlock:
    head, _, rest = key.partition("?")
    kind, _, variant = head.partition("/")
    words = [part.partition("=") for part in rest.split("&")]
    given = {name: value for name, equals, value in words if equals}
    flags = tuple(name for name, equals, _ in words if not equals and name != "relative")
    try:
        width, side = int(given["width"]), int(given["grid"])
        tokens = int(given.get("tokens", side * side))
        numbers = {n: int(given[n]) for n in _NUMBERS if n in given}
        beside = "pool" if "layout" in given else "softmax"  # in a block of that layout
        mixer = described_by(kind, variant) or beside
        block = Block(
            mixer,
            mlp_hidden=int(given.get("mlp_hidden", 0)),
            **{n.name: n.parse(given[n.name]) for n in find(mixer).numbers if n.name in given},
        )
        known = policy_transforms()
        policy = Policy(**{name: known[name].read(given[name]) for name in known if name in given})
        place = Place(
            *(block, width, (side, side), int(given.get("prefix", 0)), tokens),
            int(given.get("kept", tokens)),
            relative="relative" in rest.split("&"),
            act=given["act"],
            registers=int(given.get("registers", 0)),
            routed=int(given.get("routed", 0)),
            mixed=int(given.get("mixed", 0)),
        )
        return SubBlock(kind, place, policy, given["norm"], variant, flags=flags, **numbers)
    except (KeyError, ValueError) as error:
        raise CostError(f"not the key of a sub-block: {key!r} ({error!r})") from error


def weight_bits(policy: Policy) -> float:
    """Bits that one weight needs: what precision and other transforms leave of 32."""
    bits, known = 8.0 * FLOAT_BYTES, policy_transforms()
    for name, value in policy.changes().items():
        if count := known[name].bits:
            bits = count(bits, value)
    stored = [bits]
    for name, value in policy.others:
        if keep := known[name].kept:  # what is not zero, and a bit that says where it is
            stored.append(keep(LONG, value) / LONG * bits + 1 / known[name].run)
    return min(stored)
