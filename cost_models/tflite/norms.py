"""Norms, of which TFLite has none: written out, in kernels that are fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..onnx_reading import attributes
from .conversion import Conversion
from .node import Node, Writer
from .reductions import reduced
from .view import View


def _normalized(c: Conversion, view: View, axes: Sequence[int], epsilon: float) -> View:
    """A value less its mean over some axes, by its standard deviation."""
    center = reduced(c, "MEAN", view, axes, keep=True)
    rest = c.made("SUB", [view.tensor, center.tensor], view.lies, ("Sub", {}))
    squared = c.made("MUL", [rest, rest], view.lies, ("Mul", {}))
    variance = reduced(c, "MEAN", View(squared, view.lies, view.order), axes, keep=True)
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
    told = attributes(node, axis=-1, epsilon=1e-5)
    x, scale = node.input[:2]
    view = c.view(x)
    rank = len(view.order)
    axes = range(told["axis"] % rank, rank)
    normal = _normalized(c, view, axes, told["epsilon"])
    c.give(node.output[0], _scaled(c, normal, c.constants[scale], c.known(node, 2)))


def _instance_norm(c: Conversion, node: Node) -> None:
    told = attributes(node, epsilon=1e-5)
    x, scale, shift = node.input
    view = c.view(x)
    axes = range(2, len(view.order))
    normal = _normalized(c, view, axes, told["epsilon"])
    ones = (1,) * len(axes)
    each = [c.constants[name].reshape(-1, *ones) for name in (scale, shift)]
    c.give(node.output[0], _scaled(c, normal, *each))


def _batch_norm(c: Conversion, node: Node) -> None:
    told = attributes(node, epsilon=1e-5)
    x, scale, shift, mean, variance = node.input
    view = c.view(x)
    ones = (1,) * (len(view.order) - 2)
    factor = c.constants[scale] / np.sqrt(c.constants[variance] + np.float32(told["epsilon"]))
    offset = c.constants[shift] - c.constants[mean] * factor
    made = _scaled(c, view, factor.reshape(-1, *ones), offset.reshape(-1, *ones))
    c.give(node.output[0], made)


NORMS: dict[str, Writer] = {
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
}
