"""Transform: a way to compress a part of a network, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..mixers import Mixer
from ..ops import Op
from ..parameter import Scalar


def has_weights(part: str, mixer: Mixer | None) -> bool:
    """Whether a part of a network has weights that can be compressed; a plain pooling has none."""
    return part != "mixer" or mixer is None or (mixer.has_weights and mixer.compresses)


@dataclass(frozen=True)
class Transform:
    """One way to compress, by one field of a policy.

    Attributes:
        name: of the field in policies and space files, which may put `mixer_`, `mlp_`, `stem_`,
            `head_` or `downsample_` before it.
        default: value at which nothing is done; its type is the field's.
        summary: what the field says, for people.
        values: all that are allowed; empty where `range` says it.
        range: the lowest and the highest number allowed.
        on: what `apply` works on, in the order in which transforms follow each other:
            "numbers": nothing; the numbers of the block are what is left.
            "branch": (parameters by name, path of a sub-block, its module, value) -> the
            parameters that change.
            "inputs": (weight (out, in), value, second moments of the inputs (in, in) or None) ->
            directions of the inputs that stay (in, rank) and their left inverse (rank, in), or
            None where the layer stays whole. The product is stored as two matrices.
            "weights": (weight (out, ...), value) -> a weight of that shape, of whole layers and
            of each of the two matrices. Training passes its gradient straight through.
            "rounding": (grid, value) -> grid of the stored weights. Bits have no function: the
            recipe of the device says what they mean.
            "graph": (network, value) -> rewritten network.
        apply: the function as "module:attribute", absolute in a plugin; loaded by who runs it.
            It must not change what it is given, and give the same each time.
        searched: whether policies have the field. The others are only listed by
            `search.compress.transforms`, as artifacts do not follow them.
        applies: (part, its block's mixer) -> whether the field has an effect there. Parts are
            mixer, mlp, stem, head and downsample; the last three have no mixer.
        ramp: (value, share of the ramp done) -> value so far in training; from `default` to the
            value itself. On from the start without.
        back: value -> the next one that compresses less; `default` without.
        ops: (operations, value) -> operations that compute the same afterward. Their numbers may
            be arrays, of many sub-blocks at once.
        bits: (bits of a weight so far, value) -> bits of a weight, what it takes to store.
        kept: (inputs of an output channel, value) -> number of its weights that are not zero.
        run: number of weights in a row that are zero together, or not.
        coordinate: name under which the value is a coordinate of latency, where `ops` changes it.
        most_bits: bits of a weight beyond which it has no effect, such as 8 for what integers have.
    """

    name: str
    default: Scalar
    summary: str
    values: tuple[Scalar, ...] = ()
    range: tuple[float, float] = (0, 0)
    on: Literal["numbers", "branch", "inputs", "weights", "rounding", "graph"] = "weights"
    apply: str = ""
    searched: bool = True
    applies: Callable[[str, Mixer | None], bool] = has_weights
    ramp: Callable[[Any, float], Scalar] | None = None
    back: Callable[[Any], Scalar] | None = None
    ops: Callable[[list[Op], Any], list[Op]] | None = None
    bits: Callable[[float, Any], float] | None = None
    kept: Callable[[int, Any], int] | None = None
    run: int = 1
    coordinate: str = ""
    most_bits: int = 32

    @property
    def allowed(self) -> str:
        """Values or range in words."""
        if self.values:
            return ", ".join(repr(value) for value in self.values)
        return f"{self.range[0]} to {self.range[1]}"

    def read(self, text: str) -> Any:
        """Read a value back from its `str`."""
        kind = type(self.default)
        return text == "True" if kind is bool else kind(text)

    def at(self, value: Any, done: float) -> Any:
        """The value at a point of the ramp, `done` in [0, 1]."""
        return self.ramp(value, done) if self.ramp else value

    def less(self, value: Any) -> Any:
        """The next value on the way back to `default`; None where there is none.

        Units that were cut away are gone, so the way back has no step for them.
        """
        if value == self.default or self.on == "numbers":
            return None
        return self.back(value) if self.back else self.default
