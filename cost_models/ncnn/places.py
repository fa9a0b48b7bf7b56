"""Places: values picked by places that are known, and tokens by their rank.

ncnn has nothing that sorts, or that reads at places which are computed. So the rank of a token is
counted, by comparing each with all others, and a matrix of zeros and ones picks the first ones.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np

from ..onnx_reading import attributes
from .conversion import Blob, Conversion, Node, Writer
from .elementwise import ABSOLUTE, ADD, BACKWARD, MULTIPLY, SUBTRACT
from .reductions import SUM
from .shapes import cut, parts

LARGE = 1e30  # by which a difference of two scores is more than one, however small


def _gather(c: Conversion, node: Node) -> None:
    x, index = node.input
    shape = c.shape(x)
    axis = attributes(node).get("axis", 0) % len(shape)
    where = c.constants.get(index)
    if where is None:
        raise c.refusal(node, "at places that are computed has no conversion")
    if where.ndim > 1:
        raise c.refusal(node, "at a table of places has no conversion")
    blob, place = c.along(node, x, axis)
    runs = _runs(np.where(where < 0, where + shape[axis], where).reshape(-1).tolist())
    if len(runs) == 1:
        c.give(node.output[0], cut(c, blob, place, *runs[0]))
        return
    bounds = sorted({bound for run in runs for bound in run} - {0, shape[axis]})
    spans = dict(
        zip(pairwise((0, *bounds, shape[axis])), parts(c, blob, place, bounds), strict=True)
    )
    if any(run not in spans for run in runs):
        raise c.refusal(node, "at places that come twice has no conversion")
    lies = (*blob.lies[:place], where.size, *blob.lies[place + 1 :])
    made = c.made("Concat", [spans[run] for run in runs], lies, {0: place})
    c.give(node.output[0], made)


def _runs(places: list[int]) -> list[tuple[int, int]]:
    """Places one after the other, as first and behind the last of those that follow each other.

    >>> _runs([4, 5, 0])
    [(4, 6), (0, 1)]
    """
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


def _top_k(c: Conversion, node: Node) -> None:
    """A matrix (K, N) with a one in each row, where the token of that rank is.

    A token is behind all that are larger, and behind equal ones that come before it.
    """
    x, told = node.input[0], attributes(node, axis=-1, largest=1)
    *outer, count = c.shape(x)
    if told["axis"] % (len(outer) + 1) != len(outer) or not told["largest"] or prod(outer) > 1:
        raise c.refusal(node, "of this kind has no conversion")
    kept = int(c.constants[node.input[1]].reshape(()))
    row, column = c.laid(x, (1, count)), c.laid(x, (count, 1))
    places = np.arange(count, dtype=np.float32)
    larger = _times(c, _difference(c, row, column), LARGE)
    before = _difference(c, c.data(places, (count, 1)), c.data(places, (1, count)))
    behind = c.made("BinaryOp", [larger, _zero_or_one(c, before)], larger.lies, {0: ADD})
    counts = {0: SUM, 1: 0, 3: [1], 4: 0, 5: 1}
    ranks = c.made("Reduction", [_zero_or_one(c, behind)], (count,), counts)
    asked = c.data(places[:kept], (kept, 1))
    away = _difference(c, c.reshaped(ranks, (1, count)), asked)
    distance = c.made("UnaryOp", [away], away.lies, {0: ABSOLUTE})
    near = c.made("BinaryOp", [distance], away.lies, {0: BACKWARD[SUBTRACT], 1: 1, 2: 1.0})
    picks = _zero_or_one(c, near)
    values, index = node.output
    if c.uses[values]:
        c.give(values, c.made("MatMul", [row, picks], (1, kept), {0: 1}))
    c.give(index, picks)


def _difference(c: Conversion, a: Blob, b: Blob) -> Blob:
    """A row less a column or the other way round: all pairs."""
    lies = (max(a.lies[0], b.lies[0]), max(a.lies[1], b.lies[1]))
    return c.made("BinaryOp", [a, b], lies, {0: SUBTRACT})


def _times(c: Conversion, blob: Blob, factor: float) -> Blob:
    return c.made("BinaryOp", [blob], blob.lies, {0: MULTIPLY, 1: 1, 2: factor})


def _zero_or_one(c: Conversion, blob: Blob) -> Blob:
    return c.made("Clip", [blob], blob.lies, {0: 0.0, 1: 1.0})


def _gather_elements(c: Conversion, node: Node) -> None:
    """Rows at computed places: places that are the same for all channels, as a matrix."""
    x, index = node.input
    made = c.makers.get(index)
    while made is not None and made.op_type in ("Expand", "Unsqueeze"):
        index, made = made.input[0], c.makers.get(made.input[0])
    shape, axis = c.shape(x), attributes(node).get("axis", 0)
    ranked = made is not None and made.op_type == "TopK"
    if not ranked or len(shape) != 3 or shape[0] != 1 or axis != 1 or len(c.shape(index)) != 2:
        raise c.refusal(node, "has no conversion here")
    kept, channels = c.shape(index)[1], shape[2]
    inputs = [c.blob(index), c.laid(x, shape[1:])]
    c.give(node.output[0], c.made("MatMul", inputs, (kept, channels), {0: 0}))


PLACES: dict[str, Writer] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "TopK": _top_k,
}
