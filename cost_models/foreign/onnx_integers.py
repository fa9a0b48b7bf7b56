"""Integers: operators of ONNX Runtime on integers as what their quantizer started from.

That is an operator between Dequantize- and QuantizeLinear, or MatMulInteger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..units.precision_recipes import BLOCK, RECIPES
from .onnx_writer import WINDOW, Rewrite, Weight, Writer


def _q_matmul(w: Writer) -> None:
    factors = w.floats(w[0], w[1], w[2]), w.floats(w[3], w[4], w[5])
    w.integers(w.add("MatMul", factors), w[6], w[7], w.outputs[0])


def _q_gemm(w: Writer) -> None:
    factors = w.floats(w[0], w[1], w[2]), w.floats(w[3], w[4], w[5])
    product = w.add("Gemm", factors, **w.kept("transA", "transB"))
    if w[7]:
        w.integers(product, w[7], w[8], w.outputs[0])
    else:
        w.last(product)


def _q_conv(w: Writer) -> None:
    x = w.floats(w[0], w[1], w[2])
    last = w.number("channels_last")
    x = w.to_first(x) if last else x
    product = w.add("Conv", [x, w.floats(w[3], w[4], w[5])], **w.kept(*WINDOW))
    w.integers(w.to_last(product) if last else product, w[6], w[7], w.outputs[0])


def _q_pair(kind: str) -> Rewrite:
    def write(w: Writer) -> None:
        both = w.floats(w[0], w[1], w[2]), w.floats(w[3], w[4], w[5])
        w.integers(w.add(kind, both), w[6], w[7], w.outputs[0])

    return write


def _q_where(w: Writer) -> None:
    both = w.floats(w[1], w[2], w[3]), w.floats(w[4], w[5], w[6])
    w.integers(w.add("Where", [w[0], *both]), w[7], w[8], w.outputs[0])


def _q_concat(w: Writer) -> None:
    parts = [w.floats(w[i], w[i + 1], w[i + 2]) for i in range(2, len(w.node.input), 3)]
    w.integers(w.add("Concat", parts, axis=w.number("axis")), w[0], w[1], w.outputs[0])


def _q_single(kind: str, *names: str) -> Rewrite:
    def write(w: Writer) -> None:
        x = w.floats(w[0], w[1], w[2])
        last = w.number("channels_last")
        x = w.to_first(x) if last else x
        made = w.add(kind, [x], **(w.kept(*names) if names else {}))
        w.integers(w.to_last(made) if last else made, w[3], w[4], w.outputs[0])

    return write


def _q_mean(w: Writer) -> None:
    axes = w.whole(w.number("axes")) if w.number("axes") else ""
    mean = w.add("ReduceMean", [w.floats(w[0], w[1], w[2]), axes], **w.kept("keepdims"))
    w.integers(mean, w[3], w[4], w.outputs[0])


def _dynamic_matmul(w: Writer) -> None:
    x, scale, zero = (f"{w.outputs[0]}/{name}" for name in ("int8", "scale", "zero"))
    w.add("DynamicQuantizeLinear", [w[0]], x)
    w.written.nodes[-1].output.extend([scale, zero])
    product = w.add("MatMulInteger", [x, w[1], zero, w[3]])
    w.last(w.biased(w.scaled(product, (scale, w[2])), w[4]))


def _integer_matmul(w: Writer) -> None:
    product = w.add("MatMulInteger", [w[0], w[1], w[4], w[5]])
    w.last(w.biased(w.scaled(product, (w[2], w[3])), w[6]))


def _blocks_matmul(w: Writer) -> None:
    """Weights in blocks of few bits; those of 4 bits are a recipe's, if it has such blocks."""
    kernel = "blocks4a8" if w.number("accuracy_level") == 4 else "blocks4"
    block = w.number("block_size")
    kernel += "" if block == BLOCK else f"_{block}"
    kernel = kernel if w.number("bits", 4) == 4 and kernel in RECIPES else ""
    w.last(w.biased(_from_stored(w, kernel, [w[1], w[2], w[3], w[4]]), w[5]))


def _coded_matmul(w: Writer) -> None:
    w.last(_from_stored(w, "", [w[1], w[2]]))


def _from_stored(w: Writer, kernel: str, stored: Sequence[str]) -> str:
    weight = f"{w.outputs[0]}/weight"
    shape = w.number("K"), w.number("N")
    w.written.weights[weight] = Weight(shape, {name for name in stored if name}, kernel)
    return w.add("MatMul", [w[0], weight])


INTEGERS: Mapping[str, Rewrite] = {
    "QLinearMatMul": _q_matmul,
    "QLinearConv": _q_conv,
    "QGemm": _q_gemm,
    "QLinearAdd": _q_pair("Add"),
    "QLinearMul": _q_pair("Mul"),
    "QLinearWhere": _q_where,
    "QLinearConcat": _q_concat,
    "QLinearSoftmax": _q_single("Softmax", "axis"),
    "QLinearSigmoid": _q_single("Sigmoid"),
    "QLinearLeakyRelu": _q_single("LeakyRelu", "alpha"),
    "QLinearAveragePool": _q_single("AveragePool", *WINDOW),
    "QLinearGlobalAveragePool": _q_single("GlobalAveragePool"),
    "QLinearReduceMean": _q_mean,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "MatMulIntegerToFloat": _integer_matmul,
    "MatMulNBits": _blocks_matmul,
    "MatMulBnb4": _coded_matmul,
    "QuantizeLinear": Writer.as_standard,
    "DequantizeLinear": Writer.as_standard,
}
