"""Rewrites: operators of ONNX Runtime as standard ones that compute the same with the same kernels.

Integer operators become what their quantizer started from, an operator between Dequantize- and
QuantizeLinear, or MatMulInteger; fused ones come apart again. What they do is told by the operator
documentation of ONNX Runtime (ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..units.precision_recipes import BLOCK, RECIPES

Shapes = Mapping[str, list[int]]
# Products, of which pieces are made.
WORK = {
    *("MatMul", "Gemm", "MatMulInteger", "Conv", "ConvInteger", "ConvTranspose"),
    *("Attention", "Einsum"),
}
# What belongs to the sub-block around it and is measured with it: what computes each element for
# itself, what moves elements, what reduces, normalizes and pools them.
_LIGHT = """
    Abs Add And BitShift Cast CastLike Ceil Celu Clip Cos Div Dropout Elu Equal Erf Exp Floor
    Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity LeakyRelu Less LessOrEqual Log
    Max Mean Min Mish Mod Mul Neg Not Or Pow PRelu Reciprocal Relu Round Selu Sigmoid Sign Sin
    Softplus Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu Where Xor RotaryEmbedding
    QuantizeLinear DequantizeLinear DynamicQuantizeLinear

    Concat Constant ConstantOfShape CumSum DepthToSpace Expand EyeLike Flatten Gather
    GatherElements GatherND OneHot Pad Range Reshape ScatterElements ScatterND Shape Size
    Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze

    ArgMax ArgMin AveragePool BatchNormalization GlobalAveragePool GlobalMaxPool
    GroupNormalization InstanceNormalization LayerNormalization LogSoftmax LpNormalization
    MaxPool MeanVarianceNormalization ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare RMSNormalization Softmax TopK
"""
LIGHT = set(_LIGHT.split())
_WINDOW = ("kernel_shape", "strides", "pads", "auto_pad", "dilations", "group", "ceil_mode")
_STANDARD = ("", "ai.onnx")
_ORT = ("com.microsoft", *_STANDARD)  # some of its operators it writes without their domain
_BLOCKED = "com.microsoft.nchwc"  # channels in groups as wide as the processor's vectors


class Weight(NamedTuple):
    """A weight that a node stores in a form of its own.

    Attributes:
        shape: as a MatMul reads it.
        stored: names of the constants that hold it.
        kernel: recipe whose kernel reads it; "" for none that is known.
    """

    shape: tuple[int, int]
    stored: set[str]
    kernel: str


@dataclass
class Rewritten:
    """Standard nodes in place of another one.

    Attributes:
        nodes: in order.
        weights: by the names that they read.
    """

    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)


def kind_of(node: Any) -> str:
    """Kind of a node, with its domain where that is not ONNX's own."""
    return str(node.op_type if node.domain in _STANDARD else f"{node.domain}:{node.op_type}")


def rewritten(node: Any, shapes: Shapes) -> Rewritten | None:
    """What a node is in standard operators; None where it is one, or is not known.

    Args:
        node: `onnx.NodeProto`.
        shapes: value -> shape, of those that are known.
    """
    rewrite = _BLOCKED_REWRITES if node.domain == _BLOCKED else _REWRITES
    write = rewrite.get(node.op_type)
    if node.domain not in (*_ORT, _BLOCKED) or write is None:
        return None
    if node.domain in _STANDARD and node.op_type not in _WITHOUT_DOMAIN:
        return None
    writer = _Writer(node, shapes)
    try:
        write(writer)
    except _UnknownFormError:
        return None
    return writer.written


class _UnknownFormError(Exception):
    """A form of an operator that is not written here."""


class _Writer:
    """Writes the standard nodes of one node."""

    def __init__(self, node: Any, shapes: Shapes) -> None:
        self.node, self.written, self._shapes = node, Rewritten(), shapes
        self.outputs: list[str] = list(node.output)

    def __getitem__(self, index: int) -> str:
        """Name of an input; "" where it is left out."""
        return str(self.node.input[index]) if index < len(self.node.input) else ""

    def number(self, name: str, default: float = 0) -> Any:
        """An attribute."""
        from onnx import helper

        found = next((a for a in self.node.attribute if a.name == name), None)
        return default if found is None else helper.get_attribute_value(found)

    def kept(self, *names: str) -> dict[str, Any]:
        """Attributes as they are, of these names."""
        from onnx import helper

        return {
            a.name: helper.get_attribute_value(a) for a in self.node.attribute if a.name in names
        }

    def refuse(self, index: int) -> None:
        """Refuse a node with an input that holds what earlier runs left.

        Raises:
            _UnknownFormError: it is there.
        """
        if self[index]:
            raise _UnknownFormError

    def whole(self, numbers: Sequence[int]) -> str:
        """A constant of whole numbers."""
        return self.add("Constant", [], value_ints=list(numbers))

    def shares(self, value: str, axis: int, sizes: Sequence[int]) -> list[str]:
        """Shares of these sizes along an axis."""
        first = self.add("Split", [value, self.whole(sizes)], axis=axis)
        others = [f"{first}/{i}" for i in range(1, len(sizes))]
        self.written.nodes[-1].output.extend(others)
        return [first, *others]

    def shape(self, name: str) -> list[int]:
        """Shape of an input.

        Raises:
            _UnknownFormError: nobody knows it.
        """
        if name not in self._shapes:
            raise _UnknownFormError
        return self._shapes[name]

    def add(self, kind: str, read: Sequence[str], out: str = "", **attributes: Any) -> str:
        """A node with one output, and the name of that."""
        from onnx import helper

        out = out or f"{self.outputs[0]}/{len(self.written.nodes)}"
        read = list(read)
        while read and not read[-1]:
            read.pop()
        self.written.nodes.append(helper.make_node(kind, read, [out], out, **attributes))
        return out

    def last(self, _: str) -> None:
        """Give what the last node makes the name of what this one makes."""
        self.written.nodes[-1].output[0] = self.outputs[0]

    def biased(self, value: str, bias: str) -> str:
        """A sum with a bias, where there is one."""
        return self.add("Add", [value, bias]) if bias else value

    def activated(self, value: str) -> str:
        """Apply the activation that is fused into the node."""
        kind = self.number("activation", 0) or b""
        name = kind.decode()
        if name in ("", "NONE"):
            return value
        return self.add({"SiLU": "Sigmoid", "Silu": "Sigmoid"}.get(name, name), [value])

    def floats(self, value: str, scale: str, zero: str) -> str:
        """Floats of integers."""
        return self.add("DequantizeLinear", [value, scale, zero])

    def integers(self, value: str, scale: str, zero: str, out: str = "") -> str:
        """Integers of floats."""
        return self.add("QuantizeLinear", [value, scale, zero], out)

    def turned(self, value: str, *order: int, out: str = "") -> str:
        """Transpose."""
        return self.add("Transpose", [value], out, perm=order)

    def to_last(self, value: str) -> str:
        """Grid (B, C, H, W) -> (B, H, W, C)."""
        return self.turned(value, 0, 2, 3, 1)

    def to_first(self, value: str) -> str:
        """Grid (B, H, W, C) -> (B, C, H, W)."""
        return self.turned(value, 0, 3, 1, 2)


# Integer operators.


def _q_matmul(w: _Writer) -> None:
    factors = w.floats(w[0], w[1], w[2]), w.floats(w[3], w[4], w[5])
    w.integers(w.add("MatMul", factors), w[6], w[7], w.outputs[0])


def _q_gemm(w: _Writer) -> None:
    factors = w.floats(w[0], w[1], w[2]), w.floats(w[3], w[4], w[5])
    product = w.add("Gemm", factors, **w.kept("transA", "transB"))
    if w[7]:
        w.integers(product, w[7], w[8], w.outputs[0])
    else:
        w.last(product)


def _q_conv(w: _Writer) -> None:
    x = w.floats(w[0], w[1], w[2])
    last = w.number("channels_last")
    x = w.to_first(x) if last else x
    product = w.add("Conv", [x, w.floats(w[3], w[4], w[5])], **w.kept(*_WINDOW))
    w.integers(w.to_last(product) if last else product, w[6], w[7], w.outputs[0])


def _q_pair(kind: str) -> Callable[[_Writer], None]:
    def write(w: _Writer) -> None:
        both = w.floats(w[0], w[1], w[2]), w.floats(w[3], w[4], w[5])
        w.integers(w.add(kind, both), w[6], w[7], w.outputs[0])

    return write


def _q_where(w: _Writer) -> None:
    both = w.floats(w[1], w[2], w[3]), w.floats(w[4], w[5], w[6])
    w.integers(w.add("Where", [w[0], *both]), w[7], w[8], w.outputs[0])


def _q_concat(w: _Writer) -> None:
    parts = [w.floats(w[i], w[i + 1], w[i + 2]) for i in range(2, len(w.node.input), 3)]
    w.integers(w.add("Concat", parts, axis=w.number("axis")), w[0], w[1], w.outputs[0])


def _q_single(kind: str, *names: str) -> Callable[[_Writer], None]:
    def write(w: _Writer) -> None:
        x = w.floats(w[0], w[1], w[2])
        last = w.number("channels_last")
        x = w.to_first(x) if last else x
        made = w.add(kind, [x], **(w.kept(*names) if names else {}))
        w.integers(w.to_last(made) if last else made, w[3], w[4], w.outputs[0])

    return write


def _q_mean(w: _Writer) -> None:
    axes = w.whole(w.number("axes")) if w.number("axes") else ""
    mean = w.add("ReduceMean", [w.floats(w[0], w[1], w[2]), axes], **w.kept("keepdims"))
    w.integers(mean, w[3], w[4], w.outputs[0])


def _as_standard(w: _Writer) -> None:
    w.add(w.node.op_type, list(w.node.input), w.outputs[0], **w.kept("axis"))


def _scaled(w: _Writer, product: str, scales: Sequence[str]) -> str:
    """Floats of an integer product."""
    from onnx import TensorProto

    real = w.add("Cast", [product], to=TensorProto.FLOAT)
    return w.add("Mul", [real, w.add("Mul", scales)])


def _dynamic_matmul(w: _Writer) -> None:
    x, scale, zero = (f"{w.outputs[0]}/{name}" for name in ("int8", "scale", "zero"))
    w.add("DynamicQuantizeLinear", [w[0]], x)
    w.written.nodes[-1].output.extend([scale, zero])
    product = w.add("MatMulInteger", [x, w[1], zero, w[3]])
    w.last(w.biased(_scaled(w, product, (scale, w[2])), w[4]))


def _integer_matmul(w: _Writer) -> None:
    product = w.add("MatMulInteger", [w[0], w[1], w[4], w[5]])
    w.last(w.biased(_scaled(w, product, (w[2], w[3])), w[6]))


def _blocks_matmul(w: _Writer) -> None:
    """Weights in blocks of few bits; those of 4 bits are a recipe's, if it has such blocks."""
    kernel = "blocks4a8" if w.number("accuracy_level") == 4 else "blocks4"
    block = w.number("block_size")
    kernel += "" if block == BLOCK else f"_{block}"
    kernel = kernel if w.number("bits", 4) == 4 and kernel in RECIPES else ""
    w.last(w.biased(_from_stored(w, kernel, [w[1], w[2], w[3], w[4]]), w[5]))


def _coded_matmul(w: _Writer) -> None:
    w.last(_from_stored(w, "", [w[1], w[2]]))


def _from_stored(w: _Writer, kernel: str, stored: Sequence[str]) -> str:
    weight = f"{w.outputs[0]}/weight"
    shape = w.number("K"), w.number("N")
    w.written.weights[weight] = Weight(shape, {name for name in stored if name}, kernel)
    return w.add("MatMul", [w[0], weight])


# Fused operators.


def _fused_matmul(w: _Writer) -> None:
    left, right = (
        _flipped(w, w[i], w.number(f"transBatch{x}"), w.number(f"trans{x}"))
        for i, x in enumerate("AB")
    )
    w.add("MatMul", [left, right], w.outputs[0])


def _flipped(w: _Writer, value: str, batch: int, matrix: int) -> str:
    order = list(range(len(w.shape(value))))
    if batch:
        order = [*order[1:-1], 0, order[-1]]
    if matrix:
        order = [*order[:-2], order[-1], order[-2]]
    return w.turned(value, *order) if batch or matrix else value


def _fused_gemm(w: _Writer) -> None:
    w.last(w.activated(w.add("Gemm", [w[0], w[1], w[2]], **w.kept("transA", "transB"))))


def _fused_conv(w: _Writer) -> None:
    made = w.add("Conv", [w[0], w[1], w[2]], **w.kept(*_WINDOW))
    w.last(w.activated(w.add("Add", [w[3], made]) if w[3] else made))


def _last_conv(w: _Writer) -> None:
    made = w.to_last(w.add("Conv", [w.to_first(w[0]), w[1], w[2]], **w.kept(*_WINDOW)))
    w.last(w.activated(w.add("Add", [w[3], made]) if w[3] else made))


def _last_pool(w: _Writer) -> None:
    w.last(w.to_last(w.add("MaxPool", [w.to_first(w[0])], **w.kept(*_WINDOW))))


def _bias_gelu(w: _Writer) -> None:
    w.add("Gelu", [w.biased(w[0], w[1])], w.outputs[0])


def _quick_gelu(w: _Writer) -> None:
    w.add("Mul", [w[0], w.add("Sigmoid", [w[0]])], w.outputs[0])


def _skip_norm(kind: str, bias: int) -> Callable[[_Writer], None]:
    """A sum and its norm; the sum is an output, too."""

    def write(w: _Writer) -> None:
        total = w.outputs[3] if len(w.outputs) > 3 else ""
        if w[bias]:
            total = w.add("Add", [w.add("Add", [w[0], w[1]]), w[bias]], total)
        else:
            total = w.add("Add", [w[0], w[1]], total)
        scales = [w[2], w[3]] if kind == "LayerNormalization" else [w[2]]
        w.add(kind, [total, *scales], w.outputs[0])

    return write


def _rms_norm(w: _Writer) -> None:
    w.add("RMSNormalization", [w[0], w[1]], w.outputs[0])


def _group_norm(w: _Writer) -> None:
    norm = w.add("GroupNormalization", [w[0], w[1], w[2]], num_groups=w.number("groups", 1))
    w.last(w.add("Mul", [norm, w.add("Sigmoid", [norm])]) if w.number("activation") else norm)


def _bias_softmax(w: _Writer) -> None:
    w.add("Softmax", [w.add("Add", [w[0], w[1]])], w.outputs[0], axis=-1)


def _bias_add(w: _Writer) -> None:
    w.add("Add", [w[2], w.add("Add", [w[0], w[1]])], w.outputs[0])


def _rotary(w: _Writer) -> None:
    w.add("Mul", [w[0], w[0]], w.outputs[0])


def _packed_attention(w: _Writer) -> None:
    """Queries, keys and values by one product with packed weights."""
    w.refuse(4)
    packed = w.biased(w.add("MatMul", [w[0], w[1]]), w[2])
    _attend_packed(w, packed, w.shape(w[1])[1], w[5])


def _integer_attention(w: _Writer) -> None:
    w.refuse(8)
    product = w.add("MatMulInteger", [w[0], w[1], w[6], w[7]])
    packed = w.biased(_scaled(w, product, (w[3], w[4])), w[2])
    _attend_packed(w, packed, w.shape(w[1])[1])


def _attend_packed(w: _Writer, packed: str, width: int, mask: str = "") -> None:
    sizes = w.number("qkv_hidden_sizes") or [width // 3] * 3
    _attend(w, w.shares(packed, -1, sizes), mask)


def _many_heads(w: _Writer) -> None:
    """Queries, keys and values apart or packed, each of them with its heads side by side."""
    w.refuse(6)
    given = [name for name in (w[0], w[1], w[2]) if name]
    packed = next((name for name in given if len(w.shape(name)) == 5), "")
    parts = [*given[: given.index(packed)]] if packed else given
    if packed:  # (B, N, heads, 3 or 2, head_dim)
        shares = w.shares(packed, 3, [1] * w.shape(packed)[3])
        parts += [w.add("Reshape", [x, w.whole([0, 0, -1])]) for x in shares]
    if len(parts) != 3 or any(len(w.shape(name)) != 3 for name in given if name != packed):
        raise _UnknownFormError
    _attend(w, parts, w[5])


def _attend(w: _Writer, parts: Sequence[str], mask: str = "") -> None:
    heads = w.number("num_heads")
    w.add("Attention", [*parts, mask], w.outputs[0], q_num_heads=heads, kv_num_heads=heads)


# Grids whose channels lie in blocks.


def _to_blocks(w: _Writer) -> None:
    w.last(w.to_first(w[0]) if w.number("channels_last") else w.add("Identity", [w[0]]))


def _from_blocks(w: _Writer) -> None:
    """Drop the channels that fill up the last block."""
    ends = w.whole([w.number("channels")])
    grid = w.add("Slice", [w[0], w.whole([0]), ends, w.whole([1])])
    w.last(w.to_last(grid) if w.number("channels_last") else grid)


def _pooled(w: _Writer) -> None:
    w.add(w.node.op_type, [w[0]], w.outputs[0], **w.kept(*_WINDOW))


_REWRITES: dict[str, Callable[[_Writer], None]] = {
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
    "QLinearAveragePool": _q_single("AveragePool", *_WINDOW),
    "QLinearGlobalAveragePool": _q_single("GlobalAveragePool"),
    "QLinearReduceMean": _q_mean,
    "QAttention": _integer_attention,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "MatMulIntegerToFloat": _integer_matmul,
    "MatMulNBits": _blocks_matmul,
    "MatMulBnb4": _coded_matmul,
    "QuantizeLinear": _as_standard,
    "DequantizeLinear": _as_standard,
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "FusedGemm": _fused_gemm,
    "FusedConv": _fused_conv,
    "NhwcConv": _last_conv,
    "NhwcFusedConv": _last_conv,
    "NhwcMaxPool": _last_pool,
    "Gelu": _as_standard,
    "FastGelu": _bias_gelu,
    "BiasGelu": _bias_gelu,
    "QuickGelu": _quick_gelu,
    "BiasAdd": _bias_add,
    "BiasSoftmax": _bias_softmax,
    "SkipLayerNormalization": _skip_norm("LayerNormalization", 4),
    "SkipSimplifiedLayerNormalization": _skip_norm("RMSNormalization", 3),
    "SimplifiedLayerNormalization": _rms_norm,
    "GroupNorm": _group_norm,
    "RotaryEmbedding": _rotary,
    "Attention": _packed_attention,
    "MultiHeadAttention": _many_heads,
}
_BLOCKED_REWRITES: dict[str, Callable[[_Writer], None]] = {
    "Conv": _fused_conv,
    "ReorderInput": _to_blocks,
    "ReorderOutput": _from_blocks,
    "MaxPool": _pooled,
    "AveragePool": _pooled,
    "GlobalMaxPool": _pooled,
    "GlobalAveragePool": _pooled,
}
# Written without their domain, or standard.
_WITHOUT_DOMAIN = ("QLinearMatMul", "QLinearConv", "SimplifiedLayerNormalization")
