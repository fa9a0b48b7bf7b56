"""Reductions: values summed, averaged or otherwise reduced over axes or squares."""

from __future__ import annotations

from collections.abc import Sequence

from ..onnx_reading import attributes
from .conversion import CHANNELS_LAST, Conversion
from .node import Node, Writer
from .padding import SAME, VALID, is_same, with_zeros
from .view import View


def reduced(c: Conversion, kind: str, view: View, axes: Sequence[int], keep: bool) -> View:
    """A value summed, averaged or otherwise reduced over some of its axes."""
    gone = {axis % len(view.order) for axis in axes}
    places = sorted(view.order.index(axis) for axis in gone)
    if keep:
        lies = tuple(1 if p in places else n for p, n in enumerate(view.lies))
        order = view.order
    else:
        lies = tuple(n for p, n in enumerate(view.lies) if p not in places)
        kept = [axis for axis in view.order if axis not in gone]
        order = tuple(sorted(kept).index(axis) for axis in kept)
    options = ("Reducer", {"keepDims": keep})
    return View(c.made(kind, [view.tensor, c.whole(places)], lies, options), lies, order)


def _reduction(kind: str) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        told = attributes(node, keepdims=1)
        view = c.view(node.input[0])
        axes = c.constants[node.input[1]].tolist() if len(node.input) > 1 else told.get("axes")
        keep = bool(told["keepdims"])
        axes = axes or range(len(view.order))
        c.give(node.output[0], reduced(c, kind, view, axes, keep))

    return write


def _average_pool(c: Conversion, node: Node) -> None:
    told = c.window(node, count_include_pad=0)
    view = c.laid(c.view(node.input[0]), CHANNELS_LAST)
    sides, strides = told["kernel_shape"], told["strides"]
    lies = tuple(c.shape(node.output[0])[axis] for axis in CHANNELS_LAST)
    pads = list(told["pads"])
    for axis in (0, 1):  # with ceil_mode the last square reaches over the edge
        reach = (lies[1 + axis] - 1) * strides[axis] + sides[axis]
        pads[2 + axis] = max(pads[2 + axis], reach - view.lies[1 + axis] - pads[axis])
    if told["count_include_pad"] and any(told["pads"]):  # "same" padding does not count
        tensor, padding = with_zeros(c, view, told["pads"]), VALID
    elif not any(pads) or is_same(view, sides, strides, pads):
        tensor, padding = view.tensor, SAME if any(pads) else VALID
    else:
        raise c.refusal(node, f"with pads {pads} has no conversion")
    options = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "filterHeight": sides[0],
        "filterWidth": sides[1],
    }
    made = c.made("AVERAGE_POOL_2D", [tensor], lies, ("Pool2D", options))
    c.give(node.output[0], View(made, lies, CHANNELS_LAST))


def _global_average_pool(c: Conversion, node: Node) -> None:
    axes = range(2, len(c.shape(node.input[0])))
    c.give(node.output[0], reduced(c, "MEAN", c.view(node.input[0]), axes, keep=True))


REDUCTIONS: dict[str, Writer] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "ReduceMax": _reduction("REDUCE_MAX"),
    "ReduceMean": _reduction("MEAN"),
    "ReduceSum": _reduction("SUM"),
}
