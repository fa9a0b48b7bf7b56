"""Reductions: values summed, averaged or otherwise reduced over axes or squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..onnx_reading import attributes
from .conversion import Conversion, Node, Writer
from .graph import Param

SUM, MEAN, MAXIMUM, MINIMUM = 0, 3, 4, 5  # operations of Reduction
AVERAGE = 1  # kind of Pooling
REACHING, WITHIN = 0, 1  # squares of Pooling that reach over the edge, or only whole ones


def _reduction(operation: int) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        axes = c.constants[node.input[1]].tolist() if len(node.input) > 1 else None
        _reduce(c, node, operation, axes or attributes(node).get("axes"))

    return write


def _reduce(c: Conversion, node: Node, operation: int, axes: Sequence[int] | None) -> None:
    x = node.input[0]
    rank = len(c.shape(x))
    gone = {axis % rank for axis in axes or range(rank)}
    c.check_batch(node, gone)
    blob, groups = c.apart(node, x, [axis in gone for axis in range(rank)])
    places = [place for place, group in enumerate(groups) if group and group[0] in gone]
    lies = [length for place, length in enumerate(blob.lies) if place not in places]
    if not places:  # axes of length 1
        c.give(node.output[0], blob)
        return
    params: dict[int, Param] = {0: operation, 1: int(not lies), 3: places, 4: 0, 5: 1}
    c.give(node.output[0], c.made("Reduction", [blob], lies or (1,), params))


def _average_pool(c: Conversion, node: Node) -> None:
    told = c.window(node, count_include_pad=0, ceil_mode=0)
    (height, width), (down, along) = told["kernel_shape"], told["strides"]
    top, left, bottom, right = told["pads"]
    params: dict[int, Any] = {
        **{0: AVERAGE, 1: width, 2: along, 3: left},
        **{5: REACHING if told["ceil_mode"] else WITHIN, 6: told["count_include_pad"]},
        **{11: height, 12: down, 13: top, 14: right, 15: bottom},
    }
    x = node.input[0]
    blob = c.laid(x, c.shape(x)[1:])
    c.give(node.output[0], c.made("Pooling", [blob], c.shape(node.output[0])[1:], params))


def _global_average_pool(c: Conversion, node: Node) -> None:
    x = node.input[0]
    blob = c.laid(x, c.shape(x)[1:])
    made = c.made("Pooling", [blob], blob.lies[:1], {0: AVERAGE, 4: 1})
    c.give(node.output[0], made)


REDUCTIONS: dict[str, Writer] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "ReduceMax": _reduction(MAXIMUM),
    "ReduceMean": _reduction(MEAN),
    "ReduceMin": _reduction(MINIMUM),
    "ReduceSum": _reduction(SUM),
}
