"""Layers: products with weights, products of values, and convolutions."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .axes import MOST, lengths, merged
from .conversion import Blob, Conversion, Node, Turned, Writer
from .elementwise import ADD, MULTIPLY
from .graph import floats, tagged

EACH_ROW, EACH_COLUMN = 1, 4  # ways to add C to a product: of one length with its rows or columns
RELU = 1  # activation that is part of a layer


def _matmul(c: Conversion, node: Node) -> None:
    a, b = node.input
    if b in c.constants and c.constants[b].ndim == 2:
        bias, out = c.biased(node)
        _linear(c, a, b, c.constants[b].T, bias, out)
        return
    _product(c, node)


def _gemm(c: Conversion, node: Node) -> None:
    a, b, *_ = node.input
    transposed, bias = c.gemm(node)
    weight = c.constants[b] if transposed else c.constants[b].T
    _linear(c, a, b, weight, bias, node.output[0])


def _linear(
    c: Conversion, x: str, name: str, weight: NDArray[Any], bias: NDArray[Any] | None, out: str
) -> None:
    """A linear layer, whose weight is (outputs, inputs), on the last axis.

    Integers are multiplied with the weight on the left, as only there each row has its own scale;
    the result is turned back.
    """
    stored = c.stored(name)
    values = weight if stored is None else stored.values.T
    outputs, inputs = values.shape
    given = c.laid(x, (prod(c.shape(x)) // inputs, inputs))
    lies, layer = (given.lies[0], outputs), name.rpartition(".")[0]
    params: dict[int, Any] = {3: 1, 9: inputs}
    if stored is not None and stored.scale is not None and stored.integer_kernel:
        params |= {4: 1, 7: outputs, 14: 1, 18: 1}
        if bias is not None:
            params |= {6: 1, 10: EACH_ROW}
        parts = [tagged(values, integers=True), _bias(bias), floats(1 / stored.scale.reshape(-1))]
        made = c.made("Gemm", [given], lies, params, b"".join(parts), layer)
    else:
        scale = None if stored is None else stored.scale
        params |= {5: 1, 8: outputs}
        if bias is not None and scale is None:
            params |= {6: 1, 10: EACH_COLUMN}
        parts = [tagged(values), _bias(bias if scale is None else None)]
        made = c.made("Gemm", [given], lies, params, b"".join(parts), layer)
        if scale is not None:
            made = _scaled(c, made, scale.reshape(1, -1), bias)
    c.give(out, made)


def _scaled(c: Conversion, made: Blob, scale: NDArray[Any], bias: NDArray[Any] | None) -> Blob:
    """Products of weights that lack their scale, with it and the bias."""
    made = c.made("BinaryOp", [made, c.data(scale, scale.shape)], made.lies, {0: MULTIPLY})
    if bias is None:
        return made
    return c.made("BinaryOp", [made, c.data(bias, scale.shape)], made.lies, {0: ADD})


def _bias(bias: NDArray[Any] | None) -> bytes:
    return b"" if bias is None else tagged(bias.astype(np.float32))


def _product(c: Conversion, node: Node) -> None:
    """A product of two values; the second one may lie transposed."""
    a, b = node.input
    shape = c.shape(node.output[0])
    rank = len(shape)
    left, right = ((1,) * (rank - len(s)) + tuple(s) for s in (c.shape(a), c.shape(b)))
    kinds = [(left[axis] > 1, right[axis] > 1) for axis in range(rank - 2)]
    groups = merged(shape[:-2], kinds)
    if len(groups) + 2 > MOST:
        raise c.refusal(node, f"needs {len(groups) + 2} axes; ncnn has {MOST}")

    def lies(side: tuple[int, ...], rows: tuple[int, ...]) -> tuple[int, ...]:
        return (*(lengths(side, groups) if groups else ()), *rows)

    first, turned = c.laid(a, lies(left, left[-2:])), _transposed(c, b, rank)
    if turned is None:
        second = c.laid(b, lies(right, right[-2:]))
    else:
        second = c.reshaped(c.permuted(turned), lies(right, right[:-3:-1]))
    params: dict[int, Any] = {0: int(turned is not None)}
    made = c.made("MatMul", [first, second], lies(shape, shape[-2:]), params)
    c.give(node.output[0], made)


def _transposed(c: Conversion, name: str, rank: int) -> Turned | None:
    """A factor with its last two axes swapped, if it lies so; None where it does not."""
    turned = None if name in c.constants else c.turned(name)
    if turned is None or len(turned.axes) != rank or turned.axes[-1] == rank - 1:
        return None
    return Turned(turned.source, (*turned.axes[:-2], turned.axes[-1], turned.axes[-2]))


def _conv(c: Conversion, node: Node) -> None:
    told, bias = c.window(node, group=1), c.known(node, 2)
    x, name = node.input[:2]
    weight, group = c.constants[name], told["group"]
    if weight.ndim != 4:
        raise c.refusal(node, f"of {weight.ndim - 2} axes has no conversion")
    stored = c.stored(name)
    values = weight if stored is None else stored.values
    scale = None if stored is None else stored.scale
    outputs, _, height, width = weight.shape
    top, left, bottom, right = told["pads"]
    params: dict[int, Any] = {
        **{0: outputs, 1: width, 2: told["dilations"][1], 3: told["strides"][1], 4: left},
        **{5: int(bias is not None and scale is None), 6: int(weight.size)},
        **{11: height, 12: told["dilations"][0], 13: told["strides"][0]},
        **{14: top, 15: right, 16: bottom},
    }
    out = node.output[0]
    if group > 1:
        params[7] = group
    if scale is None:
        relu = c.followed(out, ["Relu"])
        if relu is not None:
            out, params[9] = c.absorb(relu), RELU
    kind = "ConvolutionDepthWise" if group > 1 else "Convolution"
    parts = tagged(values), floats(bias) if params[5] and bias is not None else b""
    lies = c.shape(node.output[0])[1:]
    given = c.laid(x, c.shape(x)[1:])
    layer = name.rpartition(".")[0]
    made = c.made(kind, [given], lies, dict(sorted(params.items())), b"".join(parts), layer)
    if scale is not None:
        made = _scaled(c, made, scale.reshape(-1, 1, 1), bias)
    c.give(out, made)


LAYERS: dict[str, Writer] = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}
