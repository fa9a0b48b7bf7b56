"""Element by element: sums, products and activations, and softmax."""

from __future__ import annotations

from collections.abc import Mapping

from ..onnx_reading import attributes
from .axes import MOST, grouped, lengths, merged
from .conversion import Blob, Conversion, Node, Writer
from .graph import Param

ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM, POWER = range(7)  # operations of BinaryOp
BACKWARD = {SUBTRACT: 7, DIVIDE: 8, POWER: 9}  # the same of a number with a value
NEGATIVE, SQUARE, ROOT = 1, 4, 5  # of UnaryOp
EXPONENTIAL, RECIPROCAL, TANH = 7, 15, 16
HARD = {0: 1 / 6, 1: 0.5}  # alpha and beta of HardSwish


def _unary(kind: str, params: Mapping[int, Param] | None = None) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        blob = c.blob(node.input[0])
        c.give(node.output[0], c.made(kind, [blob], blob.lies, params))

    return write


def _operation(number: int) -> Writer:
    return _unary("UnaryOp", {0: number})


def _gelu(c: Conversion, node: Node) -> None:
    about = attributes(node).get("approximate", b"none")
    _unary("GELU", {0: int(about == b"tanh")})(c, node)


def _gate(c: Conversion, node: Node, kind: str, params: Mapping[int, Param] | None = None) -> bool:
    """Write a value times what is made of it, if that is how it goes on."""
    times = c.followed(node.output[0], ["Mul"])
    if times is None or node.input[0] not in times.input:
        return False
    blob = c.blob(node.input[0])
    c.give(c.absorb(times), c.made(kind, [blob], blob.lies, params))
    return True


def _sigmoid(c: Conversion, node: Node) -> None:
    if not _gate(c, node, "Swish"):
        _unary("Sigmoid")(c, node)


def _hard_sigmoid(c: Conversion, node: Node) -> None:
    told = attributes(node, alpha=0.2, beta=0.5)
    params: dict[int, Param] = {0: told["alpha"], 1: told["beta"]}
    if not _gate(c, node, "HardSwish", params):
        _unary("HardSigmoid", params)(c, node)


def _pow(c: Conversion, node: Node) -> None:
    exponent = c.constants.get(node.input[1])
    if exponent is not None and exponent.size == 1 and float(exponent.reshape(())) == 2.0:
        _operation(SQUARE)(c, node)
    else:
        _binary(POWER)(c, node)


def _clip(c: Conversion, node: Node) -> None:
    bounds = [c.constants[name] if name else None for name in node.input[1:]]
    told = {key: float(b) for key, b in enumerate(bounds) if b is not None}
    _unary("Clip", told)(c, node)


def _binary(operation: int) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        a, b = node.input
        for x, other, number in ((a, b, operation), (b, a, BACKWARD.get(operation, operation))):
            value = c.constants.get(other)
            if value is not None and value.size == 1 and x not in c.constants:
                blob = c.blob(x)
                params: dict[int, Param] = {0: number, 1: 1, 2: float(value.reshape(()))}
                c.give(node.output[0], c.made("BinaryOp", [blob], blob.lies, params))
                return
        c.give(node.output[0], _combined(c, node, operation))

    return write


def _combined(c: Conversion, node: Node, operation: int) -> Blob:
    """Two values, of which axes of length 1 are repeated; both with the same number of axes."""
    shape = c.shape(node.output[0])
    shapes = [_spread(c, name, shape) for name in node.input]
    kinds = [tuple(side[axis] > 1 for side in shapes) for axis in range(len(shape))]
    groups = _lying(c, node, shape, shapes, kinds) or merged(shape, kinds) or [[]]
    if len(groups) > MOST:
        raise c.refusal(node, f"needs {len(groups)} axes; ncnn has {MOST}")
    blobs = [
        c.data(c.constant(name, shape), lengths(side, groups))
        if name in c.constants
        else c.laid(name, lengths(side, groups))
        for name, side in zip(node.input, shapes, strict=True)
    ]
    return c.made("BinaryOp", blobs, lengths(shape, groups), {0: operation})


def _spread(c: Conversion, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of an operand with as many axes as the result."""
    own = c.constant(name, shape).shape if name in c.constants else c.shape(name)
    return (1,) * (len(shape) - len(own)) + tuple(own)


def _lying(
    c: Conversion,
    node: Node,
    shape: tuple[int, ...],
    shapes: list[tuple[int, ...]],
    kinds: list[tuple[bool, ...]],
) -> list[list[int]] | None:
    """The axes of an operand as they lie, if it is as large as the result and the other fits."""
    for name, side in zip(node.input, shapes, strict=True):
        if name in c.constants or side != shape:
            continue
        groups = grouped(shape, c.blob(name).lies)
        if groups and all(len({kinds[axis] for axis in group}) < 2 for group in groups):
            return groups
    return None


def _softmax(c: Conversion, node: Node) -> None:
    x = node.input[0]
    axis = attributes(node).get("axis", -1) % len(c.shape(x))
    blob, place = c.along(node, x, axis)
    c.give(node.output[0], c.made("Softmax", [blob], blob.lies, {0: place, 1: 1}))


ELEMENTWISE: dict[str, Writer] = {
    "Add": _binary(ADD),
    "Clip": _clip,
    "Div": _binary(DIVIDE),
    "Erf": _unary("Erf"),
    "Exp": _operation(EXPONENTIAL),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary("HardSwish", HARD),
    "Max": _binary(MAXIMUM),
    "Min": _binary(MINIMUM),
    "Mul": _binary(MULTIPLY),
    "Neg": _operation(NEGATIVE),
    "Pow": _pow,
    "Reciprocal": _operation(RECIPROCAL),
    "Relu": _unary("ReLU"),
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Sqrt": _operation(ROOT),
    "Sub": _binary(SUBTRACT),
    "Tanh": _operation(TANH),
}
