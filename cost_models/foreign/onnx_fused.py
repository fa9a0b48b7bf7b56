"""Fused: what ONNX Runtime has fused comes apart again, and grids in blocks are whole ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .onnx_writer import WINDOW, Rewrite, UnknownFormError, Writer


def _fused_matmul(w: Writer) -> None:
    left, right = (
        _flipped(w, w[i], w.number(f"transBatch{x}"), w.number(f"trans{x}"))
        for i, x in enumerate("AB")
    )
    w.add("MatMul", [left, right], w.outputs[0])


def _flipped(w: Writer, value: str, batch: int, matrix: int) -> str:
    order = list(range(len(w.shape(value))))
    if batch:
        order = [*order[1:-1], 0, order[-1]]
    if matrix:
        order = [*order[:-2], order[-1], order[-2]]
    return w.turned(value, *order) if batch or matrix else value


def _fused_gemm(w: Writer) -> None:
    w.last(w.activated(w.add("Gemm", [w[0], w[1], w[2]], **w.kept("transA", "transB"))))


def _fused_conv(w: Writer) -> None:
    made = w.add("Conv", [w[0], w[1], w[2]], **w.kept(*WINDOW))
    w.last(w.activated(w.add("Add", [w[3], made]) if w[3] else made))


def _last_conv(w: Writer) -> None:
    made = w.to_last(w.add("Conv", [w.to_first(w[0]), w[1], w[2]], **w.kept(*WINDOW)))
    w.last(w.activated(w.add("Add", [w[3], made]) if w[3] else made))


def _last_pool(w: Writer) -> None:
    w.last(w.to_last(w.add("MaxPool", [w.to_first(w[0])], **w.kept(*WINDOW))))


def _bias_gelu(w: Writer) -> None:
    w.add("Gelu", [w.biased(w[0], w[1])], w.outputs[0])


def _quick_gelu(w: Writer) -> None:
    w.add("Mul", [w[0], w.add("Sigmoid", [w[0]])], w.outputs[0])


def _skip_norm(kind: str, bias: int) -> Rewrite:
    """A sum and its norm; the sum is an output, too."""

    def write(w: Writer) -> None:
        total = w.outputs[3] if len(w.outputs) > 3 else ""
        if w[bias]:
            total = w.add("Add", [w.add("Add", [w[0], w[1]]), w[bias]], total)
        else:
            total = w.add("Add", [w[0], w[1]], total)
        scales = [w[2], w[3]] if kind == "LayerNormalization" else [w[2]]
        w.add(kind, [total, *scales], w.outputs[0])

    return write


def _rms_norm(w: Writer) -> None:
    w.add("RMSNormalization", [w[0], w[1]], w.outputs[0])


def _group_norm(w: Writer) -> None:
    norm = w.add("GroupNormalization", [w[0], w[1], w[2]], num_groups=w.number("groups", 1))
    w.last(w.add("Mul", [norm, w.add("Sigmoid", [norm])]) if w.number("activation") else norm)


def _bias_softmax(w: Writer) -> None:
    w.add("Softmax", [w.add("Add", [w[0], w[1]])], w.outputs[0], axis=-1)


def _bias_add(w: Writer) -> None:
    w.add("Add", [w[2], w.add("Add", [w[0], w[1]])], w.outputs[0])


def _rotary(w: Writer) -> None:
    w.add("Mul", [w[0], w[0]], w.outputs[0])


def _packed_attention(w: Writer) -> None:
    """Queries, keys and values by one product with packed weights."""
    w.refuse(4)
    packed = w.biased(w.add("MatMul", [w[0], w[1]]), w[2])
    _attend_packed(w, packed, w.shape(w[1])[1], w[5])


def _integer_attention(w: Writer) -> None:
    w.refuse(8)
    product = w.add("MatMulInteger", [w[0], w[1], w[6], w[7]])
    packed = w.biased(w.scaled(product, (w[3], w[4])), w[2])
    _attend_packed(w, packed, w.shape(w[1])[1])


def _attend_packed(w: Writer, packed: str, width: int, mask: str = "") -> None:
    sizes = w.number("qkv_hidden_sizes") or [width // 3] * 3
    _attend(w, w.shares(packed, -1, sizes), mask)


def _many_heads(w: Writer) -> None:
    """Queries, keys and values apart or packed, each of them with its heads side by side."""
    w.refuse(6)
    given = [name for name in (w[0], w[1], w[2]) if name]
    packed = next((name for name in given if len(w.shape(name)) == 5), "")
    parts = [*given[: given.index(packed)]] if packed else given
    if packed:  # (B, N, heads, 3 or 2, head_dim)
        shares = w.shares(packed, 3, [1] * w.shape(packed)[3])
        parts += [w.add("Reshape", [x, w.whole([0, 0, -1])]) for x in shares]
    if len(parts) != 3 or any(len(w.shape(name)) != 3 for name in given if name != packed):
        raise UnknownFormError
    _attend(w, parts, w[5])


def _attend(w: Writer, parts: Sequence[str], mask: str = "") -> None:
    heads = w.number("num_heads")
    w.add("Attention", [*parts, mask], w.outputs[0], q_num_heads=heads, kv_num_heads=heads)


# Grids whose channels lie in blocks.


def _to_blocks(w: Writer) -> None:
    w.last(w.to_first(w[0]) if w.number("channels_last") else w.add("Identity", [w[0]]))


def _from_blocks(w: Writer) -> None:
    """Drop the channels that fill up the last block."""
    ends = w.whole([w.number("channels")])
    grid = w.add("Slice", [w[0], w.whole([0]), ends, w.whole([1])])
    w.last(w.to_last(grid) if w.number("channels_last") else grid)


def _pooled(w: Writer) -> None:
    w.add(w.node.op_type, [w[0]], w.outputs[0], **w.kept(*WINDOW))


FUSED: Mapping[str, Rewrite] = {
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "FusedGemm": _fused_gemm,
    "FusedConv": _fused_conv,
    "NhwcConv": _last_conv,
    "NhwcFusedConv": _last_conv,
    "NhwcMaxPool": _last_pool,
    "Gelu": Writer.as_standard,
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
    "QAttention": _integer_attention,
}
BLOCKED: Mapping[str, Rewrite] = {
    "Conv": _fused_conv,
    "ReorderInput": _to_blocks,
    "ReorderOutput": _from_blocks,
    "MaxPool": _pooled,
    "AveragePool": _pooled,
    "GlobalMaxPool": _pooled,
    "GlobalAveragePool": _pooled,
}
