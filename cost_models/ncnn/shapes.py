"""Shapes: values reshaped, turned, cut, joined, padded and repeated."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np

from ..onnx_reading import attributes
from .conversion import Blob, Conversion, Node, Turned, Writer, around
from .graph import Param

WHOLE = -233  # length of a part that is what is left


def _same_elements(c: Conversion, node: Node) -> None:
    c.give(node.output[0], c.blob(node.input[0]))


def _transpose(c: Conversion, node: Node) -> None:
    x, rank = node.input[0], len(c.shape(node.input[0]))
    axes = attributes(node).get("perm", list(range(rank))[::-1])
    c.check_batch(node, [place for place, axis in enumerate(axes) if axis != place])
    before = c.turned(x)
    c.give(node.output[0], Turned(before.source, tuple(before.axes[axis] for axis in axes)))


def _concat(c: Conversion, node: Node) -> None:
    out = node.output[0]
    shape = list(c.shape(out))
    axis = attributes(node)["axis"] % len(shape)
    c.check_batch(node, [axis])
    parts: list[Blob] = []
    for name in node.input:
        own = c.constant(name, shape) if name in c.constants else None
        length = (c.shape(name) if own is None else own.shape)[axis]
        if not length:
            continue
        lies = around([*shape[:axis], length, *shape[axis + 1 :]], axis)
        parts.append(c.laid(name, lies) if own is None else c.data(own, lies))
    place = int(prod(shape[:axis]) > 1)
    c.give(out, c.made("Concat", parts, around(shape, axis), {0: place}))


def cut(c: Conversion, blob: Blob, place: int, start: int, stop: int) -> Blob:
    """Part of a value along one of its axes as they lie."""
    if (start, stop) == (0, blob.lies[place]):
        return blob
    lies = (*blob.lies[:place], stop - start, *blob.lies[place + 1 :])
    params: dict[int, Param] = {9: [start], 10: [stop], 11: [place]}
    return c.made("Crop", [blob], lies, params)


def parts(c: Conversion, blob: Blob, place: int, bounds: Sequence[int]) -> list[Blob]:
    """All parts of a value between bounds along one of its axes as they lie."""
    sizes = [stop - start for start, stop in pairwise((0, *bounds, blob.lies[place]))]
    params: dict[int, Param] = {0: [*sizes[:-1], WHOLE], 1: place}
    made = c.graph.add("Slice", [blob.name], params, outputs=len(sizes))
    around = blob.lies[:place], blob.lies[place + 1 :]
    return [Blob(n, (*around[0], s, *around[1])) for n, s in zip(made, sizes, strict=True)]


def _slice(c: Conversion, node: Node) -> None:
    x, starts, stops, *rest = node.input
    shape = c.shape(x)
    begun, ended = (c.constants[name].tolist() for name in (starts, stops))
    axes = c.constants[rest[0]].tolist() if rest else list(range(len(begun)))
    steps = c.constants[rest[1]].tolist() if len(rest) > 1 else [1] * len(begun)
    if set(steps) != {1}:
        raise c.refusal(node, f"with steps {steps} has no conversion")
    if 0 in c.shape(node.output[0]):
        return  # a Concat leaves it out
    made, left = c.blob(x), list(shape)
    for axis, start, stop in zip(axes, begun, ended, strict=True):
        axis %= len(shape)
        first, last, _ = slice(start, stop).indices(shape[axis])
        if (first, last) != (0, shape[axis]):
            c.check_batch(node, [axis])
            made = cut(c, *c.alone(made, left, axis), first, last)
            left[axis] = last - first
    c.give(node.output[0], made)


def _split(c: Conversion, node: Node) -> None:
    x = node.input[0]
    axis = attributes(node).get("axis", 0) % len(c.shape(x))
    blob, place = c.along(node, x, axis)
    ends = np.cumsum([c.shape(name)[axis] for name in node.output]).tolist()
    for name, part in zip(node.output, parts(c, blob, place, ends[:-1]), strict=True):
        c.give(name, part)


def _pad(c: Conversion, node: Node) -> None:
    x = node.input[0]
    shape = c.shape(x)
    pads = c.constants[node.input[1]].tolist()
    value = c.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    zero = value is None or not np.any(value)
    if min(pads) < 0 or not zero or attributes(node).get("mode", b"constant") != b"constant":
        raise c.refusal(node, "with anything but zeros has no conversion")
    rank = len(shape)
    axes = [axis for axis in range(rank) if pads[axis] or pads[rank + axis]]
    if not axes:
        c.give(node.output[0], c.blob(x))
        return
    first = min(axes[0], rank - 2)  # it and the next one are padded at once
    second = first + 1
    c.check_batch(node, axes)
    if axes[-1] > second:
        raise c.refusal(node, f"of axes {axes} has no conversion")
    inner, outer = prod(shape[second + 1 :]), prod(shape[:first])
    lies = shape[first], shape[second] * inner
    blob = c.laid(x, (outer, *lies) if outer > 1 else lies)
    top, bottom = pads[first], pads[rank + first]
    left, right = (pads[end] * inner for end in (second, rank + second))
    height, width = lies
    made = (*blob.lies[:-2], height + top + bottom, width + left + right)
    params: dict[int, Param] = {0: top, 1: bottom, 2: left, 3: right}
    c.give(node.output[0], c.made("Padding", [blob], made, params))


def _tile(c: Conversion, node: Node) -> None:
    times = c.constants[node.input[1]].tolist()
    _repeated(c, node, dict(enumerate(times)))


def _expand(c: Conversion, node: Node) -> None:
    """Axes of length 1 repeated."""
    shape, result = c.shape(node.input[0]), c.shape(node.output[0])
    shape = (1,) * (len(result) - len(shape)) + tuple(shape)
    _repeated(c, node, {a: n for a, n in enumerate(result) if n != shape[a]})


def _repeated(c: Conversion, node: Node, times: dict[int, int]) -> None:
    """A value several times along its axes, one axis after the other."""
    x = node.input[0]
    result = c.shape(node.output[0])
    shape = [1] * (len(result) - len(c.shape(x))) + list(c.shape(x))
    blob = c.blob(x)
    for axis, count in times.items():
        if count > 1:
            c.check_batch(node, [axis])
            given, place = c.alone(blob, shape, axis)
            lies = (*given.lies[:place], given.lies[place] * count, *given.lies[place + 1 :])
            blob = c.made("Tile", [given], lies, {0: place, 1: count})
            shape[axis] *= count
    c.give(node.output[0], blob)


SHAPES: dict[str, Writer] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _same_elements,
    "Identity": _same_elements,
    "Pad": _pad,
    "Reshape": _same_elements,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _same_elements,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _same_elements,
}
