"""Places: values picked by places that are known, and tokens by places that are computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..onnx_reading import attributes
from .conversion import Conversion
from .node import Node, Writer
from .shapes import cut
from .view import View, plainly


def _gather(c: Conversion, node: Node) -> None:
    x, index = node.input
    axis = attributes(node).get("axis", 0) % len(c.shape(x))
    view, where = c.view(x), c.constants.get(index)
    if where is None:
        if axis or len(view.order) != 2 or len(c.shape(index)) != 1:
            raise c.refusal(node, "at places that are computed has no conversion here")
        c.give(node.output[0], _rows(c, node, x, index))
        return
    length = c.shape(x)[axis]
    where = np.where(where < 0, where + length, where).astype(np.int32)
    if where.ndim == 0:
        one = cut(c, view, axis, int(where), int(where) + 1)
        c.give(node.output[0], c.regrouped(one, c.shape(node.output[0])))
        return
    if where.ndim > 1:
        raise c.refusal(node, "at a table of places has no conversion")
    place = view.place(axis)
    lies = (*view.lies[:place], len(where), *view.lies[place + 1 :])
    inputs = [view.tensor, c.graph.constant(where)]
    made = c.made("GATHER", inputs, lies, ("Gather", {"axis": place}))
    c.give(node.output[0], View(made, lies, view.order))


def _rows(c: Conversion, node: Node, x: str, index: str) -> View:
    """Rows of a matrix (N, C) at places (K,) or (K, 1)."""
    lies = (c.shape(index)[0], c.shape(x)[1])
    inputs = [c.plain(x).tensor, _places(c, node, index, lies[:1])]
    return plainly(c.made("GATHER", inputs, lies, ("Gather", {"axis": 0})), lies)


def _places(c: Conversion, node: Node, name: str, shape: Sequence[int]) -> int:
    """Tensor of places that are known or were ranked, with another shape."""
    if name in c.constants:
        return c.graph.constant(c.constants[name].reshape(shape).astype(np.int32))
    made = c.makers.get(name)
    while made is not None and made.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        name, made = made.input[0], c.makers.get(made.input[0])
    if made is None or made.op_type != "TopK":
        raise c.refusal(node, "at places that are computed has no conversion here")
    out = c.graph.tensor(shape, "INT32")
    options = ("Reshape", {"newShape": np.array(shape, np.int32)})
    c.graph.add("RESHAPE", [c.plain(name).tensor, c.whole(shape)], [out], options)
    return out


def _scatter_nd(c: Conversion, node: Node) -> None:
    """Other rows at some places of a matrix, by adding what changes, as there is no update."""
    x, index, others = node.input
    if len(c.shape(x)) != 2 or c.shape(index)[1:] != (1,) or attributes(node).get("reduction"):
        raise c.refusal(node, "of this kind has no conversion")
    before, after, rows = _rows(c, node, x, index), c.plain(others), c.plain(x)
    change = c.made("SUB", [after.tensor, before.tensor], after.lies, ("Sub", {}))
    inputs = [_places(c, node, index, c.shape(index)), change, c.whole(rows.lies)]
    spread = c.made("SCATTER_ND", inputs, rows.lies, ("ScatterNd", {}))
    made = c.made("ADD", [rows.tensor, spread], rows.lies, ("Add", {}))
    c.give(node.output[0], plainly(made, rows.lies))


def _gather_elements(c: Conversion, node: Node) -> None:
    """Rows at computed places: places that are the same for all channels."""
    x, index = node.input
    made = c.makers.get(index)
    while made is not None and made.op_type in ("Expand", "Unsqueeze"):
        index, made = made.input[0], c.makers.get(made.input[0])
    rank, axis = len(c.shape(x)), attributes(node).get("axis", 0)
    if rank != 3 or axis != 1 or len(c.shape(index)) != 2:
        raise c.refusal(node, "has no conversion here")
    view, lies = c.plain(x), c.shape(node.output[0])
    inputs = [view.tensor, c.plain(index).tensor]
    options = ("Gather", {"axis": 1, "batchDims": 1})
    c.give(node.output[0], plainly(c.made("GATHER", inputs, lies, options), lies))


def _expand(c: Conversion, node: Node) -> None:
    """Places of a GatherElements, which does without; anything else is refused there."""
    reader = c.followed(node.output[0], ["GatherElements"])
    if reader is None and c.shape(node.input[0]) != c.shape(node.output[0]):
        raise c.refusal(node, "has no conversion")
    c.give(node.output[0], c.view(node.input[0]))


def _top_k(c: Conversion, node: Node) -> None:
    told = attributes(node, axis=-1, largest=1)
    view = c.plain(node.input[0])
    if told["axis"] % len(view.order) != len(view.order) - 1 or not told["largest"]:
        raise c.refusal(node, "of this kind has no conversion")
    lies = c.shape(node.output[0])
    values, places = c.graph.tensor(lies), c.graph.tensor(lies, "INT32")
    count = c.graph.constant(c.constants[node.input[1]].reshape(()).astype(np.int32))
    c.graph.add("TOPK_V2", [view.tensor, count], [values, places], ("TopKV2", {}))
    c.give(node.output[0], plainly(values, lies))
    c.give(node.output[1], plainly(places, lies))


PLACES: dict[str, Writer] = {
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "ScatterND": _scatter_nd,
    "TopK": _top_k,
}
