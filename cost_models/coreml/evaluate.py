"""Evaluate: what an ML program answers, by the definitions of its operators.

Core ML runs on Apple's systems alone. What it would answer is computed here from the file itself,
operator by operator, as coremltools' reference defines them (coremltools.converters.mil.mil.ops),
in numpy and in the order of the program. So a wrong conversion shows, and no more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import erf, pi, sqrt
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ...spaces.errors import CostError
from .package import Program

Array = NDArray[Any]
Arguments = Mapping[str, Any]
_erf = np.vectorize(erf, otypes=[np.float32])


def evaluate(program: Program, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The answer to an input.

    Raises:
        CostError: an operator of another shape than the program says, or one that is not defined
            here.
    """
    values: dict[str, Any] = {program.given: x}
    for operation in program.operations:
        if operation.kind not in DEFINED:
            raise CostError(f"Core ML: operator {operation.kind} of the program is not known here")
        arguments = {
            name: _bound(values, given) if isinstance(given, tuple) else given
            for name, given in operation.inputs.items()
        }
        value = DEFINED[operation.kind](arguments)
        if np.shape(value) != operation.shape:
            raise CostError(
                f"Core ML: {operation.kind} {operation.output!r} makes {list(np.shape(value))}, "
                f"the program says {list(operation.shape)}"
            )
        values[operation.output] = value
    return np.asarray(values[program.answer], np.float32)


def check_known(program: Program) -> None:
    """Check that every operator is defined here.

    Raises:
        CostError: one is not.
    """
    for operation in program.operations:
        if operation.kind not in DEFINED:
            raise CostError(f"Core ML: operator {operation.kind} of the program is not known here")


def _bound(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """A value, or of several values all of them."""
    return values[names[0]] if len(names) == 1 else [values[name] for name in names]


def _constant(a: Arguments) -> Any:
    return a["val"]


def _dequantized(a: Arguments) -> Array:
    values, axis = a["quantized_data"], int(a["axis"])
    shape = [-1 if index == axis else 1 for index in range(values.ndim)]
    scale, zero = (np.asarray(a[name]) for name in ("scale", "zero_point"))
    scale = scale.reshape(shape) if scale.ndim else scale
    zero = zero.reshape(shape) if zero.ndim else zero
    return (values.astype(np.float32) - zero.astype(np.float32)) * scale


def _linear(a: Arguments) -> Array:
    return a["x"] @ a["weight"].T + a.get("bias", np.float32(0))


def _mat_mul(a: Arguments) -> Array:
    x, y = a["x"], a["y"]
    x = np.swapaxes(x, -1, -2) if a.get("transpose_x", False) else x
    y = np.swapaxes(y, -1, -2) if a.get("transpose_y", False) else y
    return x @ y


def _windows(a: Arguments, x: Array, size: Sequence[int], fill: float, ceil: bool) -> Array:
    """Parts of images that a kernel sees: (N, C, H, W, h, w)."""
    if str(a["pad_type"]) not in ("custom", "valid"):
        raise CostError(f"Core ML: padding {a['pad_type']!r} is not known here")
    pad = [int(n) for n in a["pad"]] if str(a["pad_type"]) == "custom" else [0] * 4
    strides = [int(n) for n in a["strides"]]
    ends: list[tuple[int, int]] = [(0, 0), (0, 0)]
    for axis in (0, 1):
        before, behind = pad[2 * axis : 2 * axis + 2]
        over = (x.shape[2 + axis] + before + behind - size[axis]) % strides[axis]
        ends.append((before, behind + (strides[axis] - over if ceil and over else 0)))
    padded = np.pad(x, ends, constant_values=fill)
    seen = sliding_window_view(padded, tuple(size), axis=(2, 3))
    return seen[:, :, :: strides[0], :: strides[1]]


def _conv(a: Arguments) -> Array:
    x, weight, groups = a["x"], a["weight"], int(a.get("groups", 1))
    dilations = [int(n) for n in a.get("dilations", (1, 1))]
    reach = [(n - 1) * d + 1 for n, d in zip(weight.shape[2:], dilations, strict=True)]
    seen = _windows(a, x, reach, 0.0, False)[..., :: dilations[0], :: dilations[1]]
    parts = [
        np.tensordot(each, kernel, ((1, 4, 5), (1, 2, 3)))
        for each, kernel in zip(np.split(seen, groups, 1), np.split(weight, groups), strict=True)
    ]
    made = np.concatenate(parts, -1).transpose(0, 3, 1, 2)
    return made + a["bias"][:, None, None] if "bias" in a else made


def _average_pool(a: Arguments) -> Array:
    size, ceil = [int(n) for n in a["kernel_sizes"]], bool(a.get("ceil_mode", False))
    total = _windows(a, a["x"], size, 0.0, ceil).sum((-1, -2))
    if not a.get("exclude_padding_from_average", False):
        return total / np.float32(size[0] * size[1])
    return total / _windows(a, np.ones_like(a["x"]), size, 0.0, ceil).sum((-1, -2))


def _normal(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    centered = x - x.mean(axes, keepdims=True)
    return centered / np.sqrt(np.square(centered).mean(axes, keepdims=True) + epsilon)


def _layer_norm(a: Arguments) -> Array:
    axes = tuple(int(axis) for axis in a["axes"])
    made = _normal(a["x"], axes, a["epsilon"])
    return made * a.get("gamma", np.float32(1)) + a.get("beta", np.float32(0))


def _instance_norm(a: Arguments) -> Array:
    made = _normal(a["x"], tuple(range(2, a["x"].ndim)), a["epsilon"])
    spread = (-1, *[1] * (a["x"].ndim - 2))
    return made * a["gamma"].reshape(spread) + a["beta"].reshape(spread)


def _batch_norm(a: Arguments) -> Array:
    spread = (-1, *[1] * (a["x"].ndim - 2))
    mean, variance, gamma, beta = (
        a[name].reshape(spread) for name in ("mean", "variance", "gamma", "beta")
    )
    return (a["x"] - mean) / np.sqrt(variance + a["epsilon"]) * gamma + beta


def _softmax(a: Arguments) -> Array:
    axis = int(a["axis"])
    powers = np.exp(a["x"] - a["x"].max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def _gelu(a: Arguments) -> Array:
    x = a["x"]
    if str(a["mode"]) == "EXACT":
        return x * (1 + _erf(x * np.float32(sqrt(0.5)))) / 2
    if str(a["mode"]) == "TANH_APPROXIMATION":
        return x * (1 + np.tanh(np.float32(sqrt(2 / pi)) * (x + np.float32(0.044715) * x**3))) / 2
    raise CostError(f"Core ML: gelu with mode {a['mode']!r} is not known here")


def _reduced(of: Callable[..., Array]) -> Callable[[Arguments], Array]:
    def compute(a: Arguments) -> Array:
        axes = tuple(int(axis) for axis in a["axes"])
        return of(a["x"], axis=axes, keepdims=bool(a["keep_dims"]))

    return compute


def _two(of: Callable[..., Array]) -> Callable[[Arguments], Array]:
    return lambda a: of(a["x"], a["y"])


def _one(of: Callable[..., Array]) -> Callable[[Arguments], Array]:
    return lambda a: of(a["x"])


def _sliced(a: Arguments) -> Array:
    begin, end, stride = (np.asarray(a[name]).tolist() for name in ("begin", "end", "stride"))
    none = [False] * len(begin)
    from_first, to_last, one = (
        np.asarray(a.get(name, none)).tolist()
        for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    if any(one) or min(stride) < 1:
        raise CostError("Core ML: slice_by_index with negative strides or fewer axes is not known")
    return a["x"][
        tuple(
            slice(None if from_first[i] else begin[i], None if to_last[i] else end[i], stride[i])
            for i in range(len(begin))
        )
    ]


def _padded(a: Arguments) -> Array:
    if str(a["mode"]) != "constant":
        raise CostError(f"Core ML: pad with mode {a['mode']!r} is not known here")
    pairs = np.asarray(a["pad"]).reshape(-1, 2).tolist()
    pairs = [[0, 0]] * (a["x"].ndim - len(pairs)) + pairs
    return np.pad(a["x"], pairs, constant_values=a["constant_val"])


DEFINED: dict[str, Callable[[Arguments], Any]] = {
    "const": _constant,
    "constexpr_affine_dequantize": _dequantized,
    "identity": lambda a: a["x"],
    "linear": _linear,
    "matmul": _mat_mul,
    "conv": _conv,
    "avg_pool": _average_pool,
    "layer_norm": _layer_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "softmax": _softmax,
    "gelu": _gelu,
    **{"add": _two(np.add), "sub": _two(np.subtract), "mul": _two(np.multiply)},
    **{"real_div": _two(np.divide), "pow": _two(np.power)},
    **{"maximum": _two(np.maximum), "minimum": _two(np.minimum)},
    **{"exp": _one(np.exp), "sqrt": _one(np.sqrt), "tanh": _one(np.tanh), "erf": _one(_erf)},
    "relu": lambda a: np.maximum(a["x"], np.float32(0)),
    "silu": lambda a: a["x"] / (1 + np.exp(-a["x"])),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a["x"])),
    "sigmoid_hard": lambda a: np.clip(a["x"] * a["alpha"] + a["beta"], 0, 1),
    "clip": lambda a: np.clip(a["x"], a["alpha"], a["beta"]),
    "rsqrt": lambda a: 1 / np.sqrt(a["x"] + a["epsilon"]),
    "inverse": lambda a: 1 / (a["x"] + a["epsilon"]),
    "square": lambda a: np.square(a["x"]),
    **{"reduce_sum": _reduced(np.sum), "reduce_mean": _reduced(np.mean)},
    "reduce_max": _reduced(np.max),
    "reshape": lambda a: a["x"].reshape(np.asarray(a["shape"]).tolist()),
    "transpose": lambda a: a["x"].transpose(np.asarray(a["perm"]).tolist()),
    "expand_dims": lambda a: np.expand_dims(a["x"], tuple(np.asarray(a["axes"]).tolist())),
    "squeeze": lambda a: np.squeeze(a["x"], tuple(np.asarray(a["axes"]).tolist())),
    "concat": lambda a: np.concatenate(a["values"], int(a["axis"])),
    "slice_by_index": _sliced,
    "gather": lambda a: np.take(a["x"], a["indices"], int(a["axis"])),
    "pad": _padded,
    "tile": lambda a: np.tile(a["x"], np.asarray(a["reps"]).tolist()),
}
