"""Operators: which of ONNX can be written for Core ML, and by what."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import prod
from typing import Any

import numpy as np

from ..onnx_reading import attributes
from .conversion import MOST, Conversion, Node, Writer

LARGEST = float(np.finfo(np.float32).max)


def _linear(c: Conversion, x: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    """Inputs (..., inputs) and weights (outputs, inputs) -> a result of some shape."""
    rows = c.reshaped(x, (prod(x.shape[:-1]), x.shape[-1])) if len(x.shape) > 3 else x
    more = {} if bias is None else {"bias": np.asarray(bias, np.float32)}
    return c.reshaped(c.mb.linear(x=rows, weight=weight, **more), shape)


def _mat_mul(c: Conversion, node: Node) -> None:
    x, y = node.input
    if y in c.constants and c.constants[y].ndim == 2 and x not in c.constants:
        bias, out = c.biased(node)
        value = _linear(c, c.read(node, x), c.weight(y, turned=True), bias, c.shape(node.output[0]))
        c.give(out, value)
        return
    c.give(node.output[0], c.mb.matmul(x=c.read(node, x), y=c.read(node, y)))


def _gemm(c: Conversion, node: Node) -> None:
    turned, bias = c.gemm(node)
    x, weight = c.read(node, node.input[0]), c.weight(node.input[1], turned=not turned)
    c.give(node.output[0], _linear(c, x, weight, bias, c.shape(node.output[0])))


def _conv(c: Conversion, node: Node) -> None:
    told = attributes(node, auto_pad=b"NOTSET", group=1)
    x, bias = c.read(node, node.input[0]), c.known(node, 2)
    axes = len(x.shape) - 2
    if told["auto_pad"] != b"NOTSET" or axes != 2:
        raise c.refusal(node, "with padding by itself, or not of images, has no conversion")
    more = {} if bias is None else {"bias": bias.astype(np.float32)}
    value = c.mb.conv(
        x=x,
        weight=c.weight(node.input[1]),
        strides=told.get("strides", [1] * axes),
        dilations=told.get("dilations", [1] * axes),
        groups=told["group"],
        pad_type="custom",
        pad=_pad(told.get("pads", [0] * 2 * axes)),
        **more,
    )
    c.give(node.output[0], value)


def _pad(pads: list[int]) -> list[int]:
    """Padding of two axes: all that is before and all that is behind -> axis by axis."""
    top, left, bottom, right = pads
    return [top, bottom, left, right]


def _average_pool(c: Conversion, node: Node) -> None:
    told = c.window(node, ceil_mode=0, count_include_pad=0)
    if told["count_include_pad"] and told["ceil_mode"]:
        raise c.refusal(node, "that counts padding and reaches over the edge has no conversion")
    value = c.mb.avg_pool(
        x=c.read(node, node.input[0]),
        kernel_sizes=told["kernel_shape"],
        strides=told["strides"],
        pad_type="custom",
        pad=_pad(told["pads"]),
        exclude_padding_from_average=not told["count_include_pad"],
        ceil_mode=bool(told["ceil_mode"]),
    )
    c.give(node.output[0], value)


def _layer_norm(c: Conversion, node: Node) -> None:
    told, shape = attributes(node, axis=-1, epsilon=1e-5), c.shape(node.input[0])
    axes = list(range(told["axis"] % len(shape), len(shape)))
    scale, shift = c.known(node, 1), c.known(node, 2)
    sizes = [shape[axis] for axis in axes]
    more = {"gamma": scale, "beta": shift}
    value = c.mb.layer_norm(
        x=c.read(node, node.input[0]),
        axes=axes,
        epsilon=np.float32(told["epsilon"]),
        **{k: v.reshape(sizes).astype(np.float32) for k, v in more.items() if v is not None},
    )
    c.give(node.output[0], value)


def _instance_norm(c: Conversion, node: Node) -> None:
    scale, shift = c.known(node, 1), c.known(node, 2)
    value = c.mb.instance_norm(
        x=c.read(node, node.input[0]),
        gamma=scale,
        beta=shift,
        epsilon=np.float32(attributes(node, epsilon=1e-5)["epsilon"]),
    )
    c.give(node.output[0], value)


def _batch_norm(c: Conversion, node: Node) -> None:
    scale, shift, mean, variance = (np.asarray(c.known(node, i), np.float64) for i in range(1, 5))
    factor = scale / np.sqrt(variance + attributes(node, epsilon=1e-5)["epsilon"])
    spread = (1, -1, *[1] * (len(c.shape(node.input[0])) - 2))
    x = c.read(node, node.input[0])
    scaled = c.mb.mul(x=x, y=factor.reshape(spread).astype(np.float32))
    moved = (shift - mean * factor).reshape(spread).astype(np.float32)
    c.give(node.output[0], c.mb.add(x=scaled, y=moved))


def _softmax(c: Conversion, node: Node) -> None:
    axis = attributes(node, axis=-1)["axis"]
    c.give(node.output[0], c.mb.softmax(x=c.read(node, node.input[0]), axis=axis))


def _two(kind: str) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        value = c.read(node, node.input[0])
        for name in node.input[1:]:
            value = getattr(c.mb, kind)(x=value, y=c.read(node, name))
        c.give(node.output[0], value)

    return write


def _one(kind: str) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        c.give(node.output[0], getattr(c.mb, kind)(x=c.read(node, node.input[0])))

    return write


def _negative(c: Conversion, node: Node) -> None:
    c.give(node.output[0], c.mb.mul(x=c.read(node, node.input[0]), y=np.float32(-1)))


def _reciprocal(c: Conversion, node: Node) -> None:
    c.give(node.output[0], c.mb.real_div(x=np.float32(1), y=c.read(node, node.input[0])))


def _gelu(c: Conversion, node: Node) -> None:
    told = attributes(node, approximate=b"none")
    mode = "EXACT" if told["approximate"] == b"none" else "TANH_APPROXIMATION"
    c.give(node.output[0], c.mb.gelu(x=c.read(node, node.input[0]), mode=mode))


def _hard_sigmoid(c: Conversion, node: Node) -> None:
    told = attributes(node, alpha=0.2, beta=0.5)
    alpha, beta = np.float32(told["alpha"]), np.float32(told["beta"])
    value = c.mb.sigmoid_hard(x=c.read(node, node.input[0]), alpha=alpha, beta=beta)
    c.give(node.output[0], value)


def _hard_swish(c: Conversion, node: Node) -> None:
    x = c.read(node, node.input[0])
    gate = c.mb.sigmoid_hard(x=x, alpha=np.float32(1 / 6), beta=np.float32(0.5))
    c.give(node.output[0], c.mb.mul(x=x, y=gate))


def _clip(c: Conversion, node: Node) -> None:
    low, high = c.known(node, 1), c.known(node, 2)
    value = c.mb.clip(
        x=c.read(node, node.input[0]),
        alpha=np.float32(-LARGEST if low is None else low.reshape(())),
        beta=np.float32(LARGEST if high is None else high.reshape(())),
    )
    c.give(node.output[0], value)


def _reduced(kind: str) -> Writer:
    def write(c: Conversion, node: Node) -> None:
        told, shape = attributes(node, keepdims=1), c.shape(node.input[0])
        given = c.known(node, 1)
        axes = told.get("axes", range(len(shape))) if given is None else given.reshape(-1).tolist()
        value = getattr(c.mb, kind)(
            x=c.read(node, node.input[0]),
            axes=[axis % len(shape) for axis in axes],
            keep_dims=bool(told["keepdims"]),
        )
        c.give(node.output[0], value)

    return write


def _global_average(c: Conversion, node: Node) -> None:
    axes = list(range(2, len(c.shape(node.input[0]))))
    value = c.mb.reduce_mean(x=c.read(node, node.input[0]), axes=axes, keep_dims=True)
    c.give(node.output[0], value)


def _reshape(c: Conversion, node: Node) -> None:
    c.give_flat(node, c.flat(node.input[0]))


def _transpose(c: Conversion, node: Node) -> None:
    shape = c.shape(node.input[0])
    order = list(attributes(node).get("perm", reversed(range(len(shape)))))
    solid = [axis for axis in order if shape[axis] > 1]
    lies = sorted(solid)
    value = c.flat(node.input[0])
    if solid == lies:
        c.give_flat(node, value)
        return
    if len(shape) <= MOST:
        c.give(node.output[0], c.mb.transpose(x=value, perm=order))
        return
    between = next((mid for mid in _moved(lies) if _most(lies, mid, solid) <= MOST), None)
    if between is None:
        raise c.refusal(node, f"moves {len(_runs(lies, solid))} axes; Core ML has {MOST}")
    value = _turned(c, value, shape, lies, between)
    c.give_flat(node, _turned(c, value, shape, between, solid))


def _moved(axes: list[int]) -> Iterator[list[int]]:
    """Axes as they are, and with some neighbors moved to another place."""
    yield axes
    for begin, end in combinations(range(len(axes) + 1), 2):
        rest = axes[:begin] + axes[end:]
        yield from (rest[:at] + axes[begin:end] + rest[at:] for at in range(len(rest) + 1))


def _most(*orders: list[int]) -> int:
    """Axes that must be apart to go through several orders, one after the other."""
    return max(len(_runs(lies, wanted)) for lies, wanted in pairwise(orders))


def _runs(lies: list[int], wanted: list[int]) -> list[list[int]]:
    """Axes in a wanted order, those together that are neighbors as they lie, too.

    >>> _runs([0, 1, 2, 3], [2, 3, 0, 1])
    [[2, 3], [0, 1]]
    """
    groups: list[list[int]] = []
    for axis in wanted:
        if groups and lies.index(axis) == lies.index(groups[-1][-1]) + 1:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _turned(
    c: Conversion, value: Any, shape: tuple[int, ...], lies: list[int], wanted: list[int]
) -> Any:
    """A value whose axes lie in one order, in another one, with as few axes as that takes."""
    groups = _runs(lies, wanted)
    before = sorted(groups, key=lambda group: lies.index(group[0]))
    value = c.reshaped(value, [prod(shape[axis] for axis in group) for group in before])
    if len(groups) < 2:
        return value
    return c.mb.transpose(x=value, perm=[before.index(group) for group in groups])


def _concat(c: Conversion, node: Node) -> None:
    axis = attributes(node)["axis"]
    values = [c.read(node, name) for name in node.input]
    c.give(node.output[0], c.mb.concat(values=values, axis=axis))


def _cut(c: Conversion, x: Any, axis: int, begin: int, end: int, step: int = 1) -> Any:
    """A part of one axis."""
    starts, ends, steps = [0] * len(x.shape), [int(n) for n in x.shape], [1] * len(x.shape)
    starts[axis], ends[axis], steps[axis] = begin, end, step
    return c.mb.slice_by_index(x=x, begin=starts, end=ends, stride=steps)


def _slice(c: Conversion, node: Node) -> None:
    value = c.read(node, node.input[0])
    starts, ends = (np.asarray(c.known(node, index)) for index in (1, 2))
    axes, steps = c.known(node, 3), c.known(node, 4)
    axes = np.arange(len(starts)) if axes is None else axes % len(value.shape)
    steps = np.ones(len(starts), int) if steps is None else steps
    if (steps < 1).any():
        raise c.refusal(node, f"with steps {steps.tolist()} has no conversion")
    for axis, start, end, step in np.stack([axes, starts, ends, steps], 1).tolist():
        begin, stop, stride = slice(start, end, step).indices(int(value.shape[axis]))
        value = _cut(c, value, axis, begin, stop, stride)
    c.give(node.output[0], value)


def _split(c: Conversion, node: Node) -> None:
    x, sizes = c.read(node, node.input[0]), c.known(node, 1)
    axis = attributes(node, axis=0)["axis"] % len(x.shape)
    begin = 0
    lengths = [c.shape(name)[axis] for name in node.output] if sizes is None else sizes.tolist()
    for name, length in zip(node.output, lengths, strict=True):
        c.give(name, _cut(c, x, axis, begin, begin + length))
        begin += length


def _gather(c: Conversion, node: Node) -> None:
    x, places = c.read(node, node.input[0]), c.known(node, 1)
    axis = attributes(node, axis=0)["axis"] % len(x.shape)
    places = np.asarray(places, np.int64) % int(x.shape[axis])
    if places.size == 1:
        value = _cut(c, x, axis, int(places.reshape(())), int(places.reshape(())) + 1)
    else:
        value = c.mb.gather(x=x, indices=places.reshape(-1).astype(np.int32), axis=axis)
    c.give_flat(node, value)


def _pad_with(c: Conversion, node: Node) -> None:
    x, pads, value = c.read(node, node.input[0]), c.known(node, 1), c.known(node, 2)
    if attributes(node, mode=b"constant")["mode"] != b"constant" or c.known(node, 3) is not None:
        raise c.refusal(node, "with other values than a constant has no conversion")
    pairs = np.asarray(pads).reshape(2, -1).T.reshape(-1).astype(np.int32)
    number = np.float32(0 if value is None else value.reshape(()))
    c.give(node.output[0], c.mb.pad(x=x, pad=pairs, mode="constant", constant_val=number))


def _repeated(c: Conversion, node: Node) -> None:
    """Tile, and Expand, which repeats axes of length 1."""
    wanted = c.shape(node.output[0])
    x = c.read(node, node.input[0])
    if len(wanted) > MOST:
        raise c.refusal(node, f"makes {len(wanted)} axes; Core ML has {MOST}")
    x = c.reshaped(x, (*[1] * (len(wanted) - len(x.shape)), *x.shape))
    times = [new // int(old) for new, old in zip(wanted, x.shape, strict=True)]
    c.give(node.output[0], c.mb.tile(x=x, reps=times) if max(times, default=1) > 1 else x)


OPERATORS: dict[str, Writer] = {
    **{"Add": _two("add"), "Sub": _two("sub"), "Mul": _two("mul"), "Div": _two("real_div")},
    **{"Max": _two("maximum"), "Min": _two("minimum"), "Pow": _two("pow")},
    **{"Relu": _one("relu"), "Exp": _one("exp"), "Sqrt": _one("sqrt"), "Tanh": _one("tanh")},
    **{"Sigmoid": _one("sigmoid"), "Erf": _one("erf"), "Neg": _negative},
    **{"Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "HardSwish": _hard_swish, "Clip": _clip},
    **{"Reciprocal": _reciprocal, "Softmax": _softmax},
    **{"ReduceSum": _reduced("reduce_sum"), "ReduceMean": _reduced("reduce_mean")},
    **{"ReduceMax": _reduced("reduce_max"), "GlobalAveragePool": _global_average},
    **{"MatMul": _mat_mul, "Gemm": _gemm, "Conv": _conv, "AveragePool": _average_pool},
    **{"LayerNormalization": _layer_norm, "InstanceNormalization": _instance_norm},
    **{"BatchNormalization": _batch_norm, "Transpose": _transpose},
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), _reshape),
    **{"Concat": _concat, "Slice": _slice, "Split": _split, "Gather": _gather},
    **{"Pad": _pad_with, "Tile": _repeated, "Expand": _repeated},
}
