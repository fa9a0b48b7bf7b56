"""Layers: products with weights, products of values, and convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .conversion import CHANNELS_LAST, Conversion
from .flatbuffer import NONE
from .node import Node, Writer, with_relu
from .padding import padded
from .view import View, plainly


def _matmul(c: Conversion, node: Node) -> None:
    a, b = node.input
    if b in c.constants and c.constants[b].ndim == 2:
        bias, out = c.biased(node)
        _linear(c, a, b, bias, out, (1, 0))
        return
    _product(c, node)


def _gemm(c: Conversion, node: Node) -> None:
    a, b, *_ = node.input
    transposed, bias = c.gemm(node)
    _linear(c, a, b, bias, node.output[0], (0, 1) if transposed else (1, 0))


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
    out, activation = with_relu(c, out)
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
    told, bias = c.window(node, group=1), c.known(node, 2)
    x, name = node.input[:2]
    weight, view = c.constants[name], c.laid(c.view(x), CHANNELS_LAST)
    outputs, group, channels = weight.shape[0], told["group"], view.lies[3]
    if weight.ndim != 4:
        raise c.refusal(node, f"with {weight.ndim - 2} axes has no conversion")
    bias = np.zeros(outputs, np.float32) if bias is None else bias
    out, activation = with_relu(c, node.output[0])
    spans = [d * (k - 1) + 1 for d, k in zip(told["dilations"], weight.shape[2:], strict=True)]
    tensor, padding = padded(c, view, spans, told["strides"], told["pads"])
    options: dict[str, Any] = {
        "padding": padding,
        "strideH": told["strides"][0],
        "strideW": told["strides"][1],
        "dilationHFactor": told["dilations"][0],
        "dilationWFactor": told["dilations"][1],
        "fusedActivationFunction": activation,
    }
    deep = 1 < group == channels  # other groups follow from the channels of the weight
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


LAYERS: dict[str, Writer] = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}
