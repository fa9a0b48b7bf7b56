"""Ops: what a sub-block computes, as a list of primitive operations with exact counts.

Multiply-accumulates (MACs) are those of linear layers, convolutions and matrix products, the
convention of `torch.utils.flop_counter`; all counts are for one image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Op(NamedTuple):
    """One primitive operation on one image.

    Attributes:
        kind: linear, conv, depthwise, matmul, norm, softmax, elementwise, pool, or constant for
            what an exported graph holds as its result.
        macs: multiply-accumulates.
        weights: elements of matrices and kernels, the part that low precision shrinks.
        others: elements of biases, norms and tables, which always stay float.
        reads: activation elements read.
        writes: activation elements written.
        shape: (rows, inputs, outputs) of a linear layer, or of the one that a convolution is.
        norm: kind of a norm.
    """

    kind: str
    macs: int = 0
    weights: int = 0
    others: int = 0
    reads: int = 0
    writes: int = 0
    shape: tuple[int, ...] = ()
    norm: str = ""


def linear(rows: int, inputs: int, outputs: int, bias: bool = True) -> Op:
    """`rows` vectors through one linear layer."""
    return Op(
        "linear",
        macs=rows * inputs * outputs,
        weights=inputs * outputs,
        others=outputs * bias,
        reads=rows * inputs,
        writes=rows * outputs,
        shape=(rows, inputs, outputs),
    )


def rank(inputs: int, outputs: int, ratio: float) -> int:
    """Rank of a factored matrix; 0 where factors would not be smaller than the matrix.

    >>> rank(192, 768, 0.5), rank(192, 768, 0.9)
    (96, 0)
    """
    wanted = max(1, round(min(inputs, outputs) * ratio))
    return wanted if wanted * (inputs + outputs) < inputs * outputs else 0


def low_rank(op: Op, ratio: float) -> list[Op]:
    """The two linear layers that replace a factored one; anything else as it is."""
    if op.kind != "linear" or not np.any(op.weights):  # a line of scores is of no policy
        return [op]
    rows, inputs, outputs = op.shape
    bias = op.others > 0
    if isinstance(inputs * outputs, np.ndarray):  # many at once; some may not be factored
        r = np.vectorize(rank)(inputs, outputs, ratio)
        between: Any = np.where(r > 0, r, inputs)
        return [
            linear(rows * (r > 0), inputs, r, bias=False),
            linear(rows, between, outputs, bias),
        ]
    r = rank(inputs, outputs, ratio)
    if not r:
        return [op]
    return [linear(rows, inputs, r, bias=False), linear(rows, r, outputs, bias)]


def conv(
    out_grid: int, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True
) -> Op:
    """A dense convolution with `out_grid` output positions."""
    return Op(
        "conv",
        macs=out_grid * inputs * outputs * kernel**2,
        weights=inputs * outputs * kernel**2,
        others=outputs * bias,
        reads=out_grid * stride**2 * inputs,
        writes=out_grid * outputs,
        shape=(out_grid, inputs * kernel**2, outputs),
    )


def layer(layout: str, rows: int, inputs: int, outputs: int, bias: bool = True) -> Op:
    """A layer from each token to itself: linear on tokens, a 1x1 convolution on a grid."""
    if layout == "grid":
        return conv(rows, inputs, outputs, 1, bias=bias)
    return linear(rows, inputs, outputs, bias)


def depthwise(grid: int, channels: int, kernel: int, bias: bool = True) -> Op:
    """A depthwise convolution of stride 1."""
    return Op(
        "depthwise",
        macs=grid * channels * kernel**2,
        weights=channels * kernel**2,
        others=channels * bias,
        reads=grid * channels,
        writes=grid * channels,
    )


def matmul(batch: int, rows: int, inner: int, columns: int) -> Op:
    """`batch` products of two activations, (rows, inner) @ (inner, columns)."""
    return Op(
        "matmul",
        macs=batch * rows * inner * columns,
        reads=batch * (rows + columns) * inner,
        writes=batch * rows * columns,
    )


def softmax(elements: int) -> Op:
    """A softmax over any axis of a tensor of `elements`."""
    return Op("softmax", reads=elements, writes=elements)


def elementwise(elements: int, operands: int = 1, others: int = 0) -> Op:
    """An activation, addition or scale; `others` counts its parameters, if it has any."""
    return Op("elementwise", others=others, reads=elements * operands, writes=elements)


def pool(reads: int, writes: int) -> Op:
    """An average over neighbors or over all tokens."""
    return Op("pool", reads=reads, writes=writes)


def norm(kind: str, rows: int, channels: int) -> Op:
    """A normalization of `rows` vectors; RMS has a scale only, the others a shift too."""
    elements = rows * channels
    others = channels if kind == "rms" else 2 * channels
    return Op("norm", others=others, reads=elements, writes=elements, norm=kind)
