"""Operators: those of TFLite by the nodes of XNNPACK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any

import numpy as np

from ...spaces.errors import CostError
from ..onnx_reading import runs
from ..tflite.flatbuffer import Operator
from .xnnpack import INVALID, XnnpackGraph

RELU, RELU6 = 1, 3  # activations that are part of an operator of TFLite
LIMITS = {RELU: (0.0, inf), RELU6: (0.0, 6.0)}
SAME = 0  # padding of TFLite by its own rule
TRANSPOSED = 1  # flag of a product whose second factor lies transposed
MOST_JOINED = 5  # values that a node joins
ROOT_2_PI = 0.7978845608028654  # of GELU by tanh

Writer = Callable[[XnnpackGraph, Operator], None]


def _options(operator: Operator) -> dict[str, Any]:
    return dict(operator.options[1]) if operator.options else {}


def _limits(operator: Operator) -> tuple[float, float] | None:
    return LIMITS.get(_options(operator).get("fusedActivationFunction", 0))


def refusal(operator: Operator, why: str) -> CostError:
    """Error that names an operator."""
    return CostError(f"ExecuTorch: operator {operator.kind} {why}")


def _unary(kind: str, limits: tuple[float, float] | None = None) -> Writer:
    def write(g: XnnpackGraph, o: Operator) -> None:
        g.add(kind, limits, input_id=g.value(o.inputs[0]), output_id=g.value(o.outputs[0]))

    return write


def _binary(kind: str) -> Writer:
    def write(g: XnnpackGraph, o: Operator) -> None:
        first, second = (g.value(tensor) for tensor in o.inputs)
        out = g.value(o.outputs[0])
        g.add(kind, _limits(o), input1_id=first, input2_id=second, output_id=out)

    return write


def _gelu(g: XnnpackGraph, o: Operator) -> None:
    """By the error function; by tanh it is written out."""
    if not _options(o)["approximate"]:
        _unary("Gelu")(g, o)
        return
    shape, x = g.source.shape(o.inputs[0]), g.value(o.inputs[0])

    def made(kind: str, a: int, b: int) -> int:
        out = g.made(shape)
        g.add(kind, input1_id=a, input2_id=b, output_id=out)
        return out

    def number(value: float) -> int:
        return g.constant(np.array([value], np.float32))

    cubic = made("Multiply", made("Multiply", made("Multiply", x, x), x), number(0.044715))
    scaled = made("Multiply", made("Add", x, cubic), number(ROOT_2_PI))
    bent = g.made(shape)
    g.add("Tanh", input_id=scaled, output_id=bent)
    half = made("Multiply", x, number(0.5))
    out = g.value(o.outputs[0])
    g.add("Multiply", input1_id=half, input2_id=made("Add", bent, number(1.0)), output_id=out)


def _linear(g: XnnpackGraph, o: Operator) -> None:
    x, weight, bias = o.inputs
    given, out = g.value(x), g.value(o.outputs[0])
    scales, values = g.source.scales(weight), g.source.value(weight)
    if scales is not None and values is not None:
        given, kept = _rounded(g, x, 1), g.integers(values, scales.values, scales.axis)
    else:
        kept = g.value(weight)
    fields: dict[str, Any] = {
        "input1_id": given,
        "filter_id": kept,
        "bias_id": g.value(bias),
        "output_id": out,
    }
    g.add("FullyConnected", _limits(o), **fields)


def _dequantize(g: XnnpackGraph, o: Operator) -> None:
    """Weights that are to be multiplied as floats: they are stored so, too."""
    values, scales = g.source.value(o.inputs[0]), g.source.scales(o.inputs[0])
    if values is None:
        raise refusal(o, "of what is computed has no conversion")
    floats = values.astype(np.float32)
    if scales is not None:
        each = [1] * floats.ndim
        each[scales.axis] = -1
        floats = floats * scales.values.reshape(each)
    g.give(o.outputs[0], g.constant(floats))


def _rounded(g: XnnpackGraph, tensor: int, inner: int) -> int:
    """A value in integers, with scales that are found at each run."""
    made = g.rounded(g.source.shape(tensor), inner)
    g.add("Convert", input_id=g.value(tensor), output_id=made)
    return made


def _product(g: XnnpackGraph, o: Operator) -> None:
    a, b = (g.value(tensor) for tensor in o.inputs)
    flags = TRANSPOSED if _options(o)["adjY"] else 0
    out = g.value(o.outputs[0])
    g.add("BatchMatrixMultiply", input1_id=a, input2_id=b, output_id=out, flags=flags)


def _conv(g: XnnpackGraph, o: Operator) -> None:
    x, weight, bias = o.inputs
    told, deep = _options(o), o.kind == "DEPTHWISE_CONV_2D"
    shape, (first, height, width, last) = g.source.shape(x), g.source.shape(weight)
    down, along = told["strideH"], told["strideW"]
    spans = [told["dilationHFactor"] * (height - 1) + 1, told["dilationWFactor"] * (width - 1) + 1]
    top, left, bottom, right = _pads(told["padding"], shape, spans, (down, along))
    scales, values = g.source.scales(weight), g.source.value(weight)
    given = g.value(x)
    if scales is not None and values is not None:
        given, kept = _rounded(g, x, 3), g.integers(values, scales.values, scales.axis)
    else:
        kept = g.value(weight)
    channels = shape[3]
    groups = channels if deep else channels // last
    g.add(
        "DepthwiseConv2d" if deep else "Conv2d",
        _limits(o),
        padding_top=top,
        padding_right=right,
        padding_bottom=bottom,
        padding_left=left,
        kernel_height=height,
        kernel_width=width,
        subsampling_height=down,
        subsampling_width=along,
        dilation_height=told["dilationHFactor"],
        dilation_width=told["dilationWFactor"],
        group_input_channels=channels // groups,
        group_output_channels=(last if deep else first) // groups,
        groups=groups,
        adjustment_height=0,
        adjustment_width=0,
        input1_id=given,
        filter_id=kept,
        bias_id=g.value(bias),
        output_id=g.value(o.outputs[0]),
    )


def _average_pool(g: XnnpackGraph, o: Operator) -> None:
    told, shape = _options(o), g.source.shape(o.inputs[0])
    sides = [told["filterHeight"], told["filterWidth"]]
    strides = [told["strideH"], told["strideW"]]
    top, left, bottom, right = _pads(told["padding"], shape, sides, strides)
    g.add(
        "AvgPooling2d",
        padding_top=top,
        padding_right=right,
        padding_bottom=bottom,
        padding_left=left,
        pooling_height=sides[0],
        pooling_width=sides[1],
        stride_height=strides[0],
        stride_width=strides[1],
        dilation_height=1,
        dilation_width=1,
        input_id=g.value(o.inputs[0]),
        output_id=g.value(o.outputs[0]),
    )


def _pads(
    padding: int, shape: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> tuple[int, int, int, int]:
    """Zeros above, left, below and right of an image, by TFLite's rule."""
    if padding != SAME:
        return 0, 0, 0, 0
    sums = [
        max(
            (-(-shape[axis + 1] // strides[axis]) - 1) * strides[axis]
            + spans[axis]
            - shape[axis + 1],
            0,
        )
        for axis in (0, 1)
    ]
    before = [total // 2 for total in sums]
    return before[0], before[1], sums[0] - before[0], sums[1] - before[1]


def _mean(factor: bool) -> Writer:
    """A mean, or a sum, over axes that are neighbors, by what averages whole images."""

    def write(g: XnnpackGraph, o: Operator) -> None:
        shape = g.source.shape(o.inputs[0])
        axes = sorted({axis % len(shape) for axis in _whole(g, o.inputs[1])})
        first, last = axes[0], axes[-1]
        if axes != list(range(first, last + 1)):
            raise refusal(o, f"over axes {axes} has no conversion")
        outer, count, inner = (
            prod(part) for part in (shape[:first], shape[first : last + 1], shape[last + 1 :])
        )
        given = _reshaped(g, g.value(o.inputs[0]), (outer, count, 1, inner))
        mean = g.made((outer, 1, 1, inner))
        g.add("GlobalAvgPooling2d", input_id=given, output_id=mean)
        if factor:
            times, made = g.constant(np.array([count], np.float32)), mean
            mean = g.made((outer, 1, 1, inner))
            g.add("Multiply", input1_id=made, input2_id=times, output_id=mean)
        _reshape_to(g, mean, g.value(o.outputs[0]), g.source.shape(o.outputs[0]))

    return write


def _reshaped(g: XnnpackGraph, x: int, shape: Sequence[int]) -> int:
    out = g.made(shape)
    _reshape_to(g, x, out, shape)
    return out


def _reshape_to(g: XnnpackGraph, x: int, out: int, shape: Sequence[int]) -> None:
    sizes = [int(n) for n in shape]
    g.add("StaticReshape", num_dims=len(sizes), new_shape=sizes, input_id=x, output_id=out)


def _reshape(g: XnnpackGraph, o: Operator) -> None:
    _reshape_to(g, g.value(o.inputs[0]), g.value(o.outputs[0]), g.source.shape(o.outputs[0]))


def _transpose(g: XnnpackGraph, o: Operator) -> None:
    axes = _whole(g, o.inputs[1])
    x, out = g.value(o.inputs[0]), g.value(o.outputs[0])
    g.add("StaticTranspose", num_dims=len(axes), perm=axes, input_id=x, output_id=out)


def _slice(g: XnnpackGraph, o: Operator) -> None:
    begin, sizes = (_whole(g, tensor) for tensor in o.inputs[1:])
    _cut(g, g.value(o.inputs[0]), g.value(o.outputs[0]), begin, sizes)


def _cut(g: XnnpackGraph, x: int, out: int, begin: list[int], sizes: list[int]) -> None:
    fields: dict[str, Any] = {"offsets": begin, "sizes": sizes, "input_id": x, "output_id": out}
    g.add("StaticSlice", num_dims=len(sizes), **fields)


def _pad(g: XnnpackGraph, o: Operator) -> None:
    pads = g.source.value(o.inputs[1])
    assert pads is not None
    before, after = pads[:, 0].tolist(), pads[:, 1].tolist()
    ends: dict[str, Any] = {"input_id": g.value(o.inputs[0]), "output_id": g.value(o.outputs[0])}
    g.add("StaticConstantPad", pre_paddings=before, post_paddings=after, padding_value=0.0, **ends)


def _concatenate(g: XnnpackGraph, o: Operator) -> None:
    parts = [(g.value(tensor), g.source.shape(tensor)) for tensor in o.inputs]
    _join(g, parts, _options(o)["axis"], g.value(o.outputs[0]))


def _join(g: XnnpackGraph, parts: list[tuple[int, tuple[int, ...]]], axis: int, out: int) -> None:
    """Values one after the other, a few at a time."""
    while len(parts) > MOST_JOINED:
        some, parts = parts[:MOST_JOINED], parts[MOST_JOINED:]
        shape = list(some[0][1])
        shape[axis] = sum(of[axis] for _, of in some)
        made = g.made(shape)
        _join(g, some, axis, made)
        parts.insert(0, (made, tuple(shape)))
    ids = [value for value, _ in parts]
    fields: dict[str, Any] = {
        f"input{n}_id": ids[n - 1] if n <= len(ids) else INVALID for n in range(1, 6)
    }
    g.add(f"Concatenate{len(ids)}", axis=axis, output_id=out, **fields)


def _gather(g: XnnpackGraph, o: Operator) -> None:
    """Parts at places that are known, cut out and joined."""
    places = g.source.value(o.inputs[1])
    if places is None:
        raise refusal(o, "at places that are computed has no conversion")
    x, shape, axis = g.value(o.inputs[0]), g.source.shape(o.inputs[0]), _options(o)["axis"]
    cuts = runs(places.tolist())
    out, parts = g.value(o.outputs[0]), list[tuple[int, tuple[int, ...]]]()
    for start, end in cuts:
        begin, sizes = [0] * len(shape), list(shape)
        begin[axis], sizes[axis] = start, end - start
        made = out if len(cuts) == 1 else g.made(sizes)
        _cut(g, x, made, begin, sizes)
        parts.append((made, tuple(sizes)))
    if len(parts) > 1:
        _join(g, parts, axis, out)


def _whole(g: XnnpackGraph, tensor: int) -> list[int]:
    value = g.source.value(tensor)
    assert value is not None
    return value.reshape(-1).tolist()


OPERATORS: dict[str, Writer] = {
    "ADD": _binary("Add"),
    "AVERAGE_POOL_2D": _average_pool,
    "BATCH_MATMUL": _product,
    "CONCATENATION": _concatenate,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "DEQUANTIZE": _dequantize,
    "DIV": _binary("Div"),
    "EXP": _unary("Exp"),
    "FULLY_CONNECTED": _linear,
    "GATHER": _gather,
    "GELU": _gelu,
    "HARD_SWISH": _unary("Hardswish"),
    "LOGISTIC": _unary("Sigmoid"),
    "MAXIMUM": _binary("Maximum"),
    "MEAN": _mean(factor=False),
    "MINIMUM": _binary("Minimum"),
    "MUL": _binary("Multiply"),
    "NEG": _unary("Negate"),
    "PAD": _pad,
    "RELU": _unary("Clamp", (0.0, inf)),
    "RESHAPE": _reshape,
    "RSQRT": _unary("ReciprocalSquareRoot"),
    "SLICE": _slice,
    "SOFTMAX": _unary("Softmax"),
    "SQRT": _unary("SquareRoot"),
    "SUB": _binary("Subtract"),
    "SUM": _mean(factor=True),
    "TANH": _unary("Tanh"),
    "TRANSPOSE": _transpose,
}
