"""Norms: by layers of ncnn, and one by a factor and an offset for each channel."""

from __future__ import annotations

from math import prod

import numpy as np

from ..onnx_reading import attributes
from .conversion import Conversion, Node, Writer
from .elementwise import ADD, MULTIPLY
from .graph import floats


def _layer_norm(c: Conversion, node: Node) -> None:
    told = attributes(node, axis=-1, epsilon=1e-5)
    (x, scale), shift = node.input[:2], c.known(node, 2)
    shape = c.shape(x)
    size = prod(shape[told["axis"] % len(shape) :])
    blob = c.blob(x)
    if blob.lies[-1] != size or len(blob.lies) == 1:
        blob = c.laid(x, (prod(shape) // size, size))
    offset = np.zeros(size, np.float32) if shift is None else shift
    params = {0: size, 1: told["epsilon"], 2: 1}
    weights = floats(c.constants[scale]) + floats(offset)
    c.give(node.output[0], c.made("LayerNorm", [blob], blob.lies, params, weights))


def _instance_norm(c: Conversion, node: Node) -> None:
    told = attributes(node, epsilon=1e-5)
    x, *affine = node.input
    shape = c.shape(x)
    blob = c.laid(x, (shape[1], 1, prod(shape[2:])))
    params = {0: shape[1], 1: told["epsilon"], 2: 1}
    weights = b"".join(floats(c.constants[name]) for name in affine)
    c.give(node.output[0], c.made("InstanceNorm", [blob], blob.lies, params, weights))


def _batch_norm(c: Conversion, node: Node) -> None:
    told = attributes(node, epsilon=1e-5)
    x, scale, shift, mean, variance = node.input
    factor = c.constants[scale] / np.sqrt(c.constants[variance] + np.float32(told["epsilon"]))
    offset = c.constants[shift] - c.constants[mean] * factor
    blob, place = c.along(node, x, 1)
    each = [1] * len(blob.lies)
    each[place] = blob.lies[place]
    for operation, value in ((MULTIPLY, factor), (ADD, offset)):
        blob = c.made("BinaryOp", [blob, c.data(value, each)], blob.lies, {0: operation})
    c.give(node.output[0], blob)


NORMS: dict[str, Writer] = {
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
}
