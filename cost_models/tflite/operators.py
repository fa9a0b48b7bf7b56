"""Operators: how each operator of ONNX is written in TFLite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .conversion import CHANNELS_LAST, Conversion
from .flatbuffer import NONE
from .view import View, plainly

Node = onnx.NodeProto
Writer = Callable[[Conversion, Node], None]
RELU, RELU6 = 1, 3  # LiteRT's ActivationFunctionType
SAME, VALID = 0, 1  # LiteRT's Padding
MOST_COPIES = 4  # of a tensor that LiteRT's fast kernels join at once


def _attributes(node: Node) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _activation(c: Conversion, name: str) -> tuple[str, int]:
    """Name of the value after a ReLU that can be part of the operator, and its code."""
    relu = c.followed(name, ["Relu"])
    return (c.absorb(relu), RELU) if relu is not None else (name, 0)


# Layers ------------------------------------------------------------------------------------------


def _matmul(c: Conversion, node: Node) -> None:
    a, b = node.input
    if b in c.constants and c.constants[b].ndim == 2:
        out, bias = node.output[0], None
        add = c.followed(out, ["Add"])
        if add is not None:
            (other,) = (name for name in add.input if name != out)
            added, length = c.constants.get(other), c.constants[b].shape[1]
            if added is not None and added.size == length and added.shape[-1:] == (length,):
                out, bias = c.absorb(add), added.reshape(-1)
        _linear(c, a, b, bias, out, (1, 0))
        return
    _product(c, node)


def _gemm(c: Conversion, node: Node) -> None:
    told = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | _attributes(node)
    a, b, *rest = node.input
    if (told["alpha"], told["beta"], told["transA"]) != (1.0, 1.0, 0) or b not in c.constants:
        raise c.refusal(node, "with factors or without constants has no conversion")
    bias = c.constants[rest[0]].reshape(-1) if rest else None
    _linear(c, a, b, bias, node.output[0], (0, 1) if told["transB"] else (1, 0))


def _linear(c: Conversion, x: str, weight: str, bias: Any, out: str, axes: tuple[int, int]) -> None:
    """A linear layer: only its last axis must lie last."""
    view = c.view(x)
    last = len(view.order) - 1
    if view.order[-1] != last:
        view = c.laid(view, range(last + 1))
    if c.stored(weight) is not None:
        tensor = c.weight(weight, (1, 0), 0)  # stored as (inputs, outputs) whatever ONNX has
    else:
        tensor = c.graph.constant(np.ascontiguousarray(c.constants[weight].transpose(axes)), weight)
    out, activation = _activation(c, out)
    lies = (*view.lies[:-1], c.graph.shape(tensor)[0])
    options = {
        "fusedActivationFunction": activation,
        "keepNumDims": True,
        "asymmetricQuantizeInputs": True,
    }
    inputs = [view.tensor, tensor, NONE if bias is None else c.graph.constant(bias)]
    made = c.made("FULLY_CONNECTED", inputs, lies, ("FullyConnected", options))
    c.give(out, View(made, lies, view.order))


def _product(c: Conversion, node: Node) -> None:
    """A product of two values; the second one may lie transposed."""
    a, b = c.plain(node.input[0]), c.view(node.input[1])
    rank = len(b.order)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    turned = b.order == swapped or (not b.plain and b.order[-1] == rank - 2)
    b = c.laid(b, swapped if turned else range(rank))
    lies = c.shape(node.output[0])
    options = ("BatchMatMul", {"adjX": False, "adjY": turned})
    made = c.made("BATCH_MATMUL", [a.tensor, b.tensor], lies, options)
    c.give(node.output[0], plainly(made, lies))


def _conv(c: Conversion, node: Node) -> None:
    told = {"group": 1, "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]} | _attributes(node)
    x, name, *rest = node.input
    weight, view = c.constants[name], c.laid(c.view(x), CHANNELS_LAST)
    outputs, group, channels = weight.shape[0], told["group"], view.lies[3]
    if weight.ndim != 4 or group not in (1, channels):
        raise c.refusal(node, f"in {group} groups has no conversion")
    bias = c.constants[rest[0]] if rest else np.zeros(outputs, np.float32)
    out, activation = _activation(c, node.output[0])
    spans = [d * (k - 1) + 1 for d, k in zip(told["dilations"], weight.shape[2:], strict=True)]
    tensor, padding = _padded(c, view, spans, told["strides"], told["pads"])
    options: dict[str, Any] = {
        "padding": padding,
        "strideH": told["strides"][0],
        "strideW": told["strides"][1],
        "dilationHFactor": told["dilations"][0],
        "dilationWFactor": told["dilations"][1],
        "fusedActivationFunction": activation,
    }
    deep = group > 1
    if deep:
        options["depthMultiplier"] = outputs // channels
        stored = c.graph.constant(np.ascontiguousarray(weight.transpose(1, 2, 3, 0)), name)
    elif c.stored(name) is not None:
        stored = c.weight(name, (0, 2, 3, 1), 0)
    else:
        stored = c.graph.constant(np.ascontiguousarray(weight.transpose(0, 2, 3, 1)), name)
    shape = c.shape(node.output[0])
    lies = tuple(shape[axis] for axis in CHANNELS_LAST)
    kind, of = ("DEPTHWISE_CONV_2D", "DepthwiseConv2D") if deep else ("CONV_2D", "Conv2D")
    made = c.made(kind, [tensor, stored, c.graph.constant(bias)], lies, (of, options))
    c.give(out, View(made, lies, CHANNELS_LAST))


def _padded(
    c: Conversion, view: View, spans: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> tuple[int, int]:
    """An image with what surrounds it, and how TFLite is to pad it further."""
    if not any(pads):
        return view.tensor, VALID
    if _same(view, spans, strides, pads):
        return view.tensor, SAME
    return _with_zeros(c, view, pads), VALID


def _with_zeros(c: Conversion, view: View, pads: Sequence[int]) -> int:
    """An image with zeros around it: above, left, below and right."""
    top, left, bottom, right = pads
    around = [(0, 0), (top, bottom), (left, right), (0, 0)]
    lies = tuple(n + sum(edges) for n, edges in zip(view.lies, around, strict=True))
    return c.made("PAD", [view.tensor, c.whole(around)], lies, ("Pad", {}))


def _same(view: View, spans: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> bool:
    """Whether TFLite's "same" padding is this one."""
    for axis in (0, 1):
        length, stride = view.lies[1 + axis], strides[axis]
        total = max((-(-length // stride) - 1) * stride + spans[axis] - length, 0)
        if (pads[axis], pads[2 + axis]) != (total // 2, total - total // 2):
            return False
    return True


def _average_pool(c: Conversion, node: Node) -> None:
    told = {"strides": [1, 1], "pads": [0] * 4, "count_include_pad": 0} | _attributes(node)
    view = c.laid(c.view(node.input[0]), CHANNELS_LAST)
    sides, strides = told["kernel_shape"], told["strides"]
    lies = tuple(c.shape(node.output[0])[axis] for axis in CHANNELS_LAST)
    pads = list(told["pads"])
    for axis in (0, 1):  # with ceil_mode the last square reaches over the edge
        reach = (lies[1 + axis] - 1) * strides[axis] + sides[axis]
        pads[2 + axis] = max(pads[2 + axis], reach - view.lies[1 + axis] - pads[axis])
    if told["count_include_pad"] and any(told["pads"]):  # "same" padding does not count
        tensor, padding = _with_zeros(c, view, told["pads"]), VALID
    elif not any(pads) or _same(view, sides, strides, pads):
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
    c.give(node.output[0], _reduced(c, "MEAN", c.view(node.input[0]), axes, keep=True))


# Norms -------------------------------------------------------------------------------------------


def _normalized(c: Conversion, view: View, axes: Sequence[int], epsilon: float) -> View:
    """A value less its mean over some axes, by its standard deviation."""
    center = _reduced(c, "MEAN", view, axes, keep=True)
    rest = c.made("SUB", [view.tensor, center.tensor], view.lies, ("Sub", {}))
    squared = c.made("MUL", [rest, rest], view.lies, ("Mul", {}))
    variance = _reduced(c, "MEAN", View(squared, view.lies, view.order), axes, keep=True)
    shifted = c.made("ADD", [variance.tensor, c.number(epsilon)], variance.lies, ("Add", {}))
    inverse = c.made("RSQRT", [shifted], variance.lies)
    made = c.made("MUL", [rest, inverse], view.lies, ("Mul", {}))
    return View(made, view.lies, view.order)


def _scaled(c: Conversion, view: View, scale: Any, shift: Any) -> View:
    made = c.made("MUL", [view.tensor, c.fitted(scale, view)], view.lies, ("Mul", {}))
    if shift is not None:
        made = c.made("ADD", [made, c.fitted(shift, view)], view.lies, ("Add", {}))
    return View(made, view.lies, view.order)


def _layer_norm(c: Conversion, node: Node) -> None:
    told = {"axis": -1, "epsilon": 1e-5} | _attributes(node)
    x, scale, *shift = node.input
    view = c.view(x)
    rank = len(view.order)
    axes = range(told["axis"] % rank, rank)
    normal = _normalized(c, view, axes, told["epsilon"])
    offset = c.constants[shift[0]] if shift else None
    c.give(node.output[0], _scaled(c, normal, c.constants[scale], offset))


def _instance_norm(c: Conversion, node: Node) -> None:
    told = {"epsilon": 1e-5} | _attributes(node)
    x, scale, shift = node.input
    view = c.view(x)
    axes = range(2, len(view.order))
    normal = _normalized(c, view, axes, told["epsilon"])
    ones = (1,) * len(axes)
    each = [c.constants[name].reshape(-1, *ones) for name in (scale, shift)]
    c.give(node.output[0], _scaled(c, normal, *each))


def _batch_norm(c: Conversion, node: Node) -> None:
    told = {"epsilon": 1e-5} | _attributes(node)
    x, scale, shift, mean, variance = node.input
    view = c.view(x)
    ones = (1,) * (len(view.order) - 2)
    factor = c.constants[scale] / np.sqrt(c.constants[variance] + np.float32(told["epsilon"]))
    offset = c.constants[shift] - c.constants[mean] * factor
    made = _scaled(c, view, factor.reshape(-1, *ones), offset.reshape(-1, *ones))
    c.give(node.output[0], made)


# Element by element ------------------------------------------------------------------------------


def _unary(kind: str, options: tuple[str, dict[str, Any]] | None = None) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        view = c.view(node.input[0])
        made = c.made(kind, [view.tensor], view.lies, options)
        c.give(node.output[0], View(made, view.lies, view.order))

    return write


def _gelu(c: Conversion, node: Node) -> None:
    about = _attributes(node).get("approximate", b"none")
    _unary("GELU", ("Gelu", {"approximate": about == b"tanh"}))(c, node)


def _hard_sigmoid(c: Conversion, node: Node) -> None:
    told = {"alpha": 0.2, "beta": 0.5} | _attributes(node)
    x = node.input[0]
    view = c.view(x)
    usual = abs(told["alpha"] - 1 / 6) < 1e-6 and told["beta"] == 0.5
    if not usual:
        raise c.refusal(node, f"with alpha {told['alpha']:g} has no conversion")
    times = c.followed(node.output[0], ["Mul"])
    if times is not None and x in times.input:
        made = c.made("HARD_SWISH", [view.tensor], view.lies)
        c.give(c.absorb(times), View(made, view.lies, view.order))
        return
    options = {"fusedActivationFunction": RELU6}
    shifted = c.made("ADD", [view.tensor, c.number(3.0)], view.lies, ("Add", options))
    made = c.made("MUL", [shifted, c.number(1 / 6)], view.lies, ("Mul", {}))
    c.give(node.output[0], View(made, view.lies, view.order))


def _pow(c: Conversion, node: Node) -> None:
    exponent = c.constants.get(node.input[1])
    if exponent is None or exponent.size != 1 or float(exponent.reshape(())) != 2.0:
        raise c.refusal(node, "with an exponent other than 2 has no conversion")
    view = c.view(node.input[0])
    made = c.made("MUL", [view.tensor, view.tensor], view.lies, ("Mul", {}))
    c.give(node.output[0], View(made, view.lies, view.order))


def _clip(c: Conversion, node: Node) -> None:
    bounds = [c.constants[name] if name else None for name in node.input[1:]]
    low, high, *_ = (*bounds, None, None)
    view = c.view(node.input[0])
    tensor = view.tensor
    for kind, bound in (("MAXIMUM", low), ("MINIMUM", high)):
        if bound is not None:
            inputs = [tensor, c.number(float(bound))]
            tensor = c.made(kind, inputs, view.lies, ("MaximumMinimum", {}))
    c.give(node.output[0], View(tensor, view.lies, view.order))


def _binary(kind: str, options: str) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        a, b = node.input
        out, fields = node.output[0], {}
        if options != "MaximumMinimum":
            out, fields["fusedActivationFunction"] = _activation(c, out)
        values = [name for name in (a, b) if name not in c.constants]
        if len(values) == 1 and len(c.shape(values[0])) == len(c.shape(node.output[0])):
            view = c.view(values[0])
            inputs = [
                view.tensor if name in values else c.fitted(c.constants[name], view)
                for name in (a, b)
            ]
            order = view.order
        else:
            views = [c.view(name) for name in (a, b)]
            if len({len(view.order) for view in views}) > 1:
                views = [c.plain(name) for name in (a, b)]
                order = tuple(range(len(c.shape(node.output[0]))))
            else:
                first = max(views, key=lambda view: int(np.prod(view.lies)))
                order = first.order
                views = [c.laid(view, order) for view in views]
            inputs = [view.tensor for view in views]
        shape = c.shape(node.output[0])
        lies = tuple(shape[axis] for axis in order)
        c.give(out, View(c.made(kind, inputs, lies, (options, fields)), lies, order))

    return write


def _softmax(c: Conversion, node: Node) -> None:
    view = c.view(node.input[0])
    last = len(view.order) - 1
    if _attributes(node).get("axis", -1) % (last + 1) != last:
        raise c.refusal(node, "over another axis than the last has no conversion")
    if view.order[-1] != last:
        view = c.laid(view, range(last + 1))
    made = c.made("SOFTMAX", [view.tensor], view.lies, ("Softmax", {"beta": 1.0}))
    c.give(node.output[0], View(made, view.lies, view.order))


# Shapes ------------------------------------------------------------------------------------------


def _reshape(c: Conversion, node: Node) -> None:
    c.give(node.output[0], c.regrouped(c.view(node.input[0]), c.shape(node.output[0])))


def _transpose(c: Conversion, node: Node) -> None:
    view = c.view(node.input[0])
    axes = _attributes(node).get("perm", list(range(len(view.order)))[::-1])
    c.give(node.output[0], view.transposed(axes))


def _same_value(c: Conversion, node: Node) -> None:
    c.give(node.output[0], c.view(node.input[0]))


def _reduced(c: Conversion, kind: str, view: View, axes: Sequence[int], keep: bool) -> View:
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
        told = {"keepdims": 1} | _attributes(node)
        view = c.view(node.input[0])
        axes = c.constants[node.input[1]].tolist() if len(node.input) > 1 else told.get("axes")
        keep = bool(told["keepdims"])
        axes = axes or range(len(view.order))
        c.give(node.output[0], _reduced(c, kind, view, axes, keep))

    return write


def _concat(c: Conversion, node: Node) -> None:
    axis = _attributes(node)["axis"] % len(c.shape(node.output[0]))
    names = [name for name in node.input if 0 not in c.shape(name)]
    order = next((c.view(n).order for n in names if n not in c.constants), c.view(names[0]).order)
    views = [c.laid(c.view(name), order) for name in names]
    c.give(node.output[0], _joined(c, views, axis))


def _joined(c: Conversion, views: Sequence[View], axis: int) -> View:
    order = views[0].order
    place = views[0].place(axis)
    lies = list(views[0].lies)
    lies[place] = sum(view.lies[place] for view in views)
    options = ("Concatenation", {"axis": place})
    made = c.made("CONCATENATION", [view.tensor for view in views], lies, options)
    return View(made, tuple(lies), order)


def _cut(c: Conversion, view: View, axis: int, start: int, stop: int) -> View:
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
        view = _cut(c, view, axis, first, last)
    c.give(node.output[0], view)


def _split(c: Conversion, node: Node) -> None:
    axis, at = _attributes(node).get("axis", 0), 0
    view = c.view(node.input[0])
    for name in node.output:
        length = c.shape(name)[axis]
        c.give(name, _cut(c, view, axis, at, at + length))
        at += length


def _pad(c: Conversion, node: Node) -> None:
    view = c.view(node.input[0])
    rank = len(view.order)
    pads = c.constants[node.input[1]].tolist()
    value = c.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    zero = value is None or not np.any(value)
    if min(pads) < 0 or not zero or _attributes(node).get("mode", b"constant") != b"constant":
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
        while count > 1:  # joining copies is fast, tiling is not
            many = next(n for n in range(min(count, MOST_COPIES), 0, -1) if count % n == 0)
            if many == 1:
                raise c.refusal(node, f"{count} times has no conversion")
            view, count = _joined(c, [view] * many, axis), count // many
    c.give(node.output[0], view)


def _gather(c: Conversion, node: Node) -> None:
    x, index = node.input
    axis = _attributes(node).get("axis", 0) % len(c.shape(x))
    view, where = c.view(x), c.constants.get(index)
    if where is None:
        raise c.refusal(node, "at places that are computed has no conversion")
    length = c.shape(x)[axis]
    where = np.where(where < 0, where + length, where).astype(np.int32)
    if where.ndim == 0:
        one = _cut(c, view, axis, int(where), int(where) + 1)
        c.give(node.output[0], c.regrouped(one, c.shape(node.output[0])))
        return
    if where.ndim > 1:
        raise c.refusal(node, "at a table of places has no conversion")
    place = view.place(axis)
    lies = (*view.lies[:place], len(where), *view.lies[place + 1 :])
    inputs = [view.tensor, c.graph.constant(where)]
    made = c.made("GATHER", inputs, lies, ("Gather", {"axis": place}))
    c.give(node.output[0], View(made, lies, view.order))


def _gather_elements(c: Conversion, node: Node) -> None:
    """Rows at computed places: places that are the same for all channels."""
    x, index = node.input
    made = c.makers.get(index)
    while made is not None and made.op_type in ("Expand", "Unsqueeze"):
        index, made = made.input[0], c.makers.get(made.input[0])
    rank, axis = len(c.shape(x)), _attributes(node).get("axis", 0)
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
    told = {"axis": -1, "largest": 1} | _attributes(node)
    view = c.plain(node.input[0])
    if told["axis"] % len(view.order) != len(view.order) - 1 or not told["largest"]:
        raise c.refusal(node, "of this kind has no conversion")
    lies = c.shape(node.output[0])
    values, places = c.graph.tensor(lies), c.graph.tensor(lies, "INT32")
    count = c.graph.constant(c.constants[node.input[1]].reshape(()).astype(np.int32))
    c.graph.add("TOPK_V2", [view.tensor, count], [values, places], ("TopKV2", {}))
    c.give(node.output[0], plainly(values, lies))
    c.give(node.output[1], plainly(places, lies))


OPERATORS: dict[str, Writer] = {
    "Add": _binary("ADD", "Add"),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _binary("DIV", "Div"),
    "Exp": _unary("EXP", ("Exp", {})),
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary("HARD_SWISH"),
    "Identity": _same_value,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "Max": _binary("MAXIMUM", "MaximumMinimum"),
    "Min": _binary("MINIMUM", "MaximumMinimum"),
    "Mul": _binary("MUL", "Mul"),
    "Neg": _unary("NEG", ("Neg", {})),
    "Pad": _pad,
    "Pow": _pow,
    "ReduceMax": _reduction("REDUCE_MAX"),
    "ReduceMean": _reduction("MEAN"),
    "ReduceSum": _reduction("SUM"),
    "Relu": _unary("RELU"),
    "Reshape": _reshape,
    "Sigmoid": _unary("LOGISTIC"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _unary("SQRT"),
    "Squeeze": _reshape,
    "Sub": _binary("SUB", "Sub"),
    "Tanh": _unary("TANH"),
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
