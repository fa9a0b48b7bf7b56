"""Zeros: bytes of sparse weights in a file that holds what is not zero, and where it is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ...spaces import Policy
from ...spaces.ops import Op
from ...spaces.transforms import policy_transforms

NODES_BYTES = 400  # of the operators that put the weights of a layer in their places
GAIN = 0.95  # of the dense bytes; what packs no better stays dense


def packed_bytes(outputs: int, inputs: int, kept: int, bits: int, run: int = 1) -> int:
    """Bytes of a weight: a bit for every run of weights that says whether it is there, and those.

    Args:
        outputs: channels.
        inputs: of each, kernel positions included.
        kept: of them that are not zero, in each channel.
        bits: of a stored weight.
        run: weights that are zero together.
    """
    return -(-outputs * (inputs // run) // 8) + -(-outputs * kept * bits // 8) + NODES_BYTES


def stored_bytes(outputs: int, inputs: int, bits: int, zeros: Policy) -> int:
    """Bytes of a weight with the zeros of a policy, in the form that takes the fewest."""
    known, dense = policy_transforms(), -(-outputs * inputs * bits // 8)
    packed = dense
    for name, value in zeros.others:
        if keep := known[name].kept:
            run = known[name].run if inputs % known[name].run == 0 else 1
            kept = keep(inputs, value)
            packed = min(packed, packed_bytes(outputs, inputs, kept, bits, run))
    return packed if packed <= GAIN * dense else dense


def saved_bytes(ops: Iterable[Op], bits: int, zeros: Policy) -> int:
    """Bytes that the zeros of a policy save in the layers among some operations."""
    saved = 0
    for op in ops:
        if op.kind in ("linear", "conv") and op.weights:
            _, inputs, outputs = op.shape
            saved += -(-outputs * inputs * bits // 8) - stored_bytes(outputs, inputs, bits, zeros)
    return saved


@lru_cache(maxsize=1 << 12)
def zeros_of(policy: Policy) -> Policy:
    """The part of a policy that makes zeros."""
    only = policy.only(lambda transform: transform.kept is not None)
    return Policy(others=only.others)
