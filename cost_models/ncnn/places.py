"""Places: values picked by places that are known."""

from __future__ import annotations

import numpy as np

from ..onnx_reading import attributes, runs
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
    parts = runs(np.where(where < 0, where + shape[axis], where).reshape(-1).tolist())
    if len(parts) == 1:
        c.give(node.output[0], cut(c, blob, place, *parts[0]))
        return
    some = [cut(c, blob, place, *run) for run in parts]
    lies = (*blob.lies[:place], where.size, *blob.lies[place + 1 :])
    made = c.made("Concat", some, lies, {0: place})
    c.give(node.output[0], made)


PLACES: dict[str, Writer] = {"Gather": _gather}
