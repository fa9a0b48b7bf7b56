"""Shapes: values reshaped, turned, cut, joined, padded and repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..onnx_reading import attributes
from .conversion import Conversion
from .node import Node, Writer
from .view import View

MOST_COPIES = 4  # of a tensor that LiteRT's fast kernels join at once


def _reshape(c: Conversion, node: Node) -> None:
    c.give(node.output[0], c.regrouped(c.view(node.input[0]), c.shape(node.output[0])))


def _transpose(c: Conversion, node: Node) -> None:
    view = c.view(node.input[0])
    axes = attributes(node).get("perm", list(range(len(view.order)))[::-1])
    c.give(node.output[0], view.transposed(axes))


def _same_value(c: Conversion, node: Node) -> None:
    c.give(node.output[0], c.view(node.input[0]))


def _concat(c: Conversion, node: Node) -> None:
    axis = attributes(node)["axis"] % len(c.shape(node.output[0]))
    names = [name for name in node.input if 0 not in c.shape(name)]
    order = next((c.view(n).order for n in names if n not in c.constants), c.view(names[0]).order)
    views = [c.laid(c.view(name), order) for name in names]
    c.give(node.output[0], joined(c, views, axis))


def joined(c: Conversion, views: Sequence[View], axis: int) -> View:
    """Values that lie alike, one after the other along one axis."""
    order = views[0].order
    place = views[0].place(axis)
    lies = list(views[0].lies)
    lies[place] = sum(view.lies[place] for view in views)
    options = ("Concatenation", {"axis": place})
    made = c.made("CONCATENATION", [view.tensor for view in views], lies, options)
    return View(made, tuple(lies), order)


def cut(c: Conversion, view: View, axis: int, start: int, stop: int) -> View:
    """Part of a value along one axis."""
    place = view.place(axis)
    if (start, stop) == (0, view.lies[place]):
        return view
    begin, lies = [0] * len(view.lies), list(view.lies)
    begin[place], lies[place] = start, stop - start
    inputs = [view.tensor, c.whole(begin), c.whole(lies)]
    return View(c.made("SLICE", inputs, lies, ("Slice", {})), tuple(lies), view.order)


def _slice(c: Conversion, node: Node) -> None:
    x, starts, stops, *rest = node.input
    view, shape = c.view(x), c.shape(x)
    begun, ended = (c.constants[name].tolist() for name in (starts, stops))
    axes = c.constants[rest[0]].tolist() if rest else list(range(len(begun)))
    steps = c.constants[rest[1]].tolist() if len(rest) > 1 else [1] * len(begun)
    if set(steps) != {1}:
        raise c.refusal(node, f"with steps {steps} has no conversion")
    if 0 in c.shape(node.output[0]):
        return  # a Concat leaves it out
    for axis, start, stop in zip(axes, begun, ended, strict=True):
        first, last, _ = slice(start, stop).indices(shape[axis])
        view = cut(c, view, axis, first, last)
    c.give(node.output[0], view)


def _split(c: Conversion, node: Node) -> None:
    axis, at = attributes(node).get("axis", 0), 0
    view = c.view(node.input[0])
    for name in node.output:
        length = c.shape(name)[axis]
        c.give(name, cut(c, view, axis, at, at + length))
        at += length


def _pad(c: Conversion, node: Node) -> None:
    view = c.view(node.input[0])
    rank = len(view.order)
    pads = c.constants[node.input[1]].tolist()
    value = c.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    zero = value is None or not np.any(value)
    if min(pads) < 0 or not zero or attributes(node).get("mode", b"constant") != b"constant":
        raise c.refusal(node, "with anything but zeros has no conversion")
    if not any(pads):
        c.give(node.output[0], view)
        return
    around = [(pads[axis], pads[rank + axis]) for axis in view.order]
    lies = tuple(n + sum(edges) for n, edges in zip(view.lies, around, strict=True))
    inputs = [view.tensor, c.whole(around)]
    c.give(node.output[0], View(c.made("PAD", inputs, lies, ("Pad", {})), lies, view.order))


def _tile(c: Conversion, node: Node) -> None:
    view = c.view(node.input[0])
    for axis, count in enumerate(c.constants[node.input[1]].tolist()):
        while count > 1:  # joining a few copies is fast, tiling is not
            many = next((n for n in range(MOST_COPIES, 1, -1) if count % n == 0), count)
            view, count = joined(c, [view] * many, axis), count // many
    c.give(node.output[0], view)


SHAPES: dict[str, Writer] = {
    "Concat": _concat,
    "Flatten": _reshape,
    "Identity": _same_value,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
