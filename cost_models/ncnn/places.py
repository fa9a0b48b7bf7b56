"""Places: values picked by places that are known."""

from __future__ import annotations

import numpy as np

from ..onnx_reading import attributes
from .conversion import Conversion, Node, Writer
from .shapes import cut


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
    some = [cut(c, blob, place, *run) for run in runs]
    lies = (*blob.lies[:place], where.size, *blob.lies[place + 1 :])
    made = c.made("Concat", some, lies, {0: place})
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


PLACES: dict[str, Writer] = {"Gather": _gather}
