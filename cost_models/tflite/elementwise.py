"""Element by element: sums, products and activations, and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..onnx_reading import attributes
from .conversion import Conversion
from .node import RELU6, Node, Writer, with_relu
from .view import View


def _unary(kind: str, options: tuple[str, dict[str, Any]] | None = None) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        view = c.view(node.input[0])
        made = c.made(kind, [view.tensor], view.lies, options)
        c.give(node.output[0], View(made, view.lies, view.order))

    return write


def _gelu(c: Conversion, node: Node) -> None:
    about = attributes(node).get("approximate", b"none")
    _unary("GELU", ("Gelu", {"approximate": about == b"tanh"}))(c, node)


def _hard_sigmoid(c: Conversion, node: Node) -> None:
    told = attributes(node, alpha=0.2, beta=0.5)
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
            out, fields["fusedActivationFunction"] = with_relu(c, out)
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
    if attributes(node).get("axis", -1) % (last + 1) != last:
        raise c.refusal(node, "over another axis than the last has no conversion")
    if view.order[-1] != last:
        view = c.laid(view, range(last + 1))
    made = c.made("SOFTMAX", [view.tensor], view.lies, ("Softmax", {"beta": 1.0}))
    c.give(node.output[0], View(made, view.lies, view.order))


ELEMENTWISE: dict[str, Writer] = {
    "Add": _binary("ADD", "Add"),
    "Clip": _clip,
    "Div": _binary("DIV", "Div"),
    "Exp": _unary("EXP", ("Exp", {})),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary("HARD_SWISH"),
    "Max": _binary("MAXIMUM", "MaximumMinimum"),
    "Min": _binary("MINIMUM", "MaximumMinimum"),
    "Mul": _binary("MUL", "Mul"),
    "Neg": _unary("NEG", ("Neg", {})),
    "Pow": _pow,
    "Relu": _unary("RELU"),
    "Sigmoid": _unary("LOGISTIC"),
    "Softmax": _softmax,
    "Sqrt": _unary("SQRT"),
    "Sub": _binary("SUB", "Sub"),
    "Tanh": _unary("TANH"),
}
