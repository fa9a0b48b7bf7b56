"""Layer writers: one layer of an ONNX graph in the operators that a recipe has for it.

See the quantization documents of ONNX Runtime for the patterns that it fuses into integer kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ...spaces.compression import INTEGER_BITS
from ..units.precision_recipes import Recipe
from .linear_layers import CONTRIB, OnnxGraph, OnnxLayer

Array = NDArray[np.float32]
Ranges = Mapping[str, NDArray[np.float32]]  # tensor -> lowest and highest value
Writer = Callable[[OnnxGraph, OnnxLayer, int, Ranges], None]
BLOCKS_OF_INTEGERS = 4  # `accuracy_level` by which MatMulNBits rounds what enters it to int8
DEFAULT_RANGE = np.array([-4.0, 4.0], np.float32)


def writer_of(recipe: Recipe) -> Writer:
    """Function that writes the layers of a recipe that is not `FLOAT`."""
    if recipe.layout == "blocks":
        return _blocks(recipe)
    if recipe.weights > INTEGER_BITS:
        return _fp16
    return {"float": _stored, "dynamic": _dynamic, "static": _static}[recipe.activations](recipe)


def quantized(weight: Array, bits: int, axis: int | None) -> tuple[NDArray[np.int8], Array]:
    """Symmetric integers of a weight, and their scales, which broadcast.

    Args:
        weight: any shape.
        bits: levels are -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        axis: of the output channels, each of which has a scale; None for one scale of all.
    """
    top = 2 ** (bits - 1) - 1
    others = tuple(a for a in range(weight.ndim) if a != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / top
    scale = np.maximum(scale, 1e-12).astype(np.float32)
    return np.clip(np.rint(weight / scale), -top, top).astype(np.int8), scale


def _out_axis(layer: OnnxLayer) -> int:
    return 0 if layer.is_conv else layer.weight.ndim - 1


def scale_axis(recipe: Recipe, layer: OnnxLayer) -> int | None:
    """Axis of a weight whose entries have a scale each; None where one scale is of all."""
    return None if recipe.layout == "tensor" else _out_axis(layer)


def _flat(scale: Array) -> Array:
    """Scales of the output channels (out,), or the one scale ()."""
    return scale.reshape(() if scale.size == 1 else -1)


def _named(layer: OnnxLayer, part: str) -> str:
    return f"{layer.module}.{part}"


def _bias(graph: OnnxGraph, layer: OnnxLayer, product: str) -> None:
    """Add a bias that was inside the operator; a MatMul's own Add follows in the graph."""
    if not layer.bias:
        return
    name = layer.bias
    if layer.is_conv:
        value = onnx.numpy_helper.to_array(graph.constants[name])
        name = graph.constant(f"{name}:grid", value.reshape(1, -1, 1, 1))
    graph.add("Add", [product, name], layer.result)


def _product(layer: OnnxLayer) -> str:
    """Name of the product before a bias."""
    return f"{layer.result}:product" if layer.bias else layer.result


def _conv_attributes(layer: OnnxLayer) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in layer.node.attribute}


def _fp16(graph: OnnxGraph, layer: OnnxLayer, bits: int, ranges: Ranges) -> None:
    half = graph.constant(_named(layer, "weight:fp16"), layer.weight.astype(np.float16))
    weight = graph.add("Cast", [half], _named(layer, "weight:float"), to=onnx.TensorProto.FLOAT)
    _float_kernel(graph, layer, weight)


def _integers(graph: OnnxGraph, layer: OnnxLayer, bits: int, recipe: Recipe) -> tuple[str, Array]:
    """The weight as an int8 tensor, stored in a container of 8 or 4 bits, and its scales."""
    values, scale = quantized(layer.weight, bits, scale_axis(recipe, layer))
    if recipe.weights == 8:
        return graph.constant(_named(layer, "weight:int8"), values), scale
    packed = graph.packed(_named(layer, "weight:int4"), values)
    name = _named(layer, "weight:int8")
    return graph.add("Cast", [packed], name, to=onnx.TensorProto.INT8), scale


def _stored(recipe: Recipe) -> Writer:
    """Integers that are cast and scaled when the model is loaded, by constant folding."""

    def write(graph: OnnxGraph, layer: OnnxLayer, bits: int, ranges: Ranges) -> None:
        stored, scale = _integers(graph, layer, bits, recipe)
        scales = graph.constant(_named(layer, "scale"), scale)
        name = _named(layer, "weight:cast")
        cast = graph.add("Cast", [stored], name, to=onnx.TensorProto.FLOAT)
        weight = graph.add("Mul", [cast, scales], _named(layer, "weight:float"))
        _float_kernel(graph, layer, weight)

    return write


def _float_kernel(graph: OnnxGraph, layer: OnnxLayer, weight: str) -> None:
    if layer.is_conv:
        inputs = [layer.source, weight, *([layer.bias] if layer.bias else [])]
        graph.add("Conv", inputs, layer.result, **_conv_attributes(layer))
    else:
        graph.add("MatMul", [layer.source, weight], _product(layer))
        _bias(graph, layer, _product(layer))


def _dynamic(recipe: Recipe) -> Writer:
    """Integer products of activations whose scale is computed at every run."""

    def write(graph: OnnxGraph, layer: OnnxLayer, bits: int, ranges: Ranges) -> None:
        x = layer.source
        weight, scale = _integers(graph, layer, bits, recipe)
        x8, x_scale, x_zero = graph.add_many(
            "DynamicQuantizeLinear", [x], [f"{x}:int8", f"{x}:scale", f"{x}:zero"]
        )
        kind = "ConvInteger" if layer.is_conv else "MatMulInteger"
        attributes = _conv_attributes(layer) if layer.is_conv else {}
        scale = _flat(scale)
        if layer.is_conv and scale.ndim:
            scale = scale.reshape(1, -1, 1, 1)
        scales = [x_scale, graph.constant(_named(layer, "scale"), scale)]
        both = graph.add("Mul", scales, f"{layer.result}:product_scale")
        total = graph.add(kind, [x8, weight, x_zero], f"{layer.result}:int32", **attributes)
        real = graph.add("Cast", [total], f"{layer.result}:real", to=onnx.TensorProto.FLOAT)
        graph.add("Mul", [real, both], _product(layer))
        _bias(graph, layer, _product(layer))

    return write


def _static(recipe: Recipe) -> Writer:
    """Integer products of activations with calibrated scales, as quantize-dequantize pairs."""
    grid = _symmetric if recipe.symmetric else _scale_and_zero

    def write(graph: OnnxGraph, layer: OnnxLayer, bits: int, ranges: Ranges) -> None:
        stored, scale = _integers(graph, layer, bits, recipe)
        scales = graph.constant(_named(layer, "scale"), _flat(scale))
        name = _named(layer, "weight:dq")
        weight = graph.add("DequantizeLinear", [stored, scales], name, axis=_out_axis(layer))
        x = _quantize_dequantize(graph, layer.source, ranges, grid)
        if not layer.is_conv:
            graph.add("MatMul", [x, weight], _product(layer))
            graph.keep_apart(_product(layer))
            if layer.bias:  # of a Gemm; subtracted, as an added one would make it a float Gemm
                value = onnx.numpy_helper.to_array(graph.constants[layer.bias])
                less = graph.constant(_named(layer, "bias:less"), -value)
                graph.add("Sub", [_product(layer), less], layer.result)
            return
        bias = layer.bias
        if bias and not recipe.symmetric:  # TensorRT takes it in float
            bias = _int32_bias(graph, layer, scale, ranges)
        inputs = [x, weight, *([bias] if bias else [])]
        raw = graph.add("Conv", inputs, f"{layer.result}:raw", **_conv_attributes(layer))
        _quantize_dequantize(graph, raw, ranges, grid, of=layer.result, out=layer.result)

    return write


def _int32_bias(graph: OnnxGraph, layer: OnnxLayer, scale: Array, ranges: Ranges) -> str:
    """The bias in units of input times weight scale, as integer convolutions take it."""
    x_scale, _ = _scale_and_zero(ranges.get(layer.source, DEFAULT_RANGE))
    value = onnx.numpy_helper.to_array(graph.constants[layer.bias])
    unit = np.asarray(_flat(scale) * x_scale, np.float32)
    whole = np.clip(np.rint(value / unit), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    inputs = [
        graph.constant(_named(layer, "bias:int32"), whole),
        graph.constant(_named(layer, "bias:scale"), unit),
    ]
    return graph.add("DequantizeLinear", inputs, _named(layer, "bias:dq"), axis=0)


def _quantize_dequantize(
    graph: OnnxGraph,
    x: str,
    ranges: Ranges,
    grid: Callable[[Array], tuple[NDArray[np.float32], NDArray[Any]]],
    of: str | None = None,
    out: str | None = None,
) -> str:
    scale, zero = grid(ranges.get(of or x, DEFAULT_RANGE))
    name = of or x
    inputs = [graph.constant(f"{name}:scale", scale), graph.constant(f"{name}:zero", zero)]
    q = graph.add("QuantizeLinear", [x, *inputs], f"{name}:q")
    return graph.add("DequantizeLinear", [q, *inputs], out or f"{name}:dq")


def _scale_and_zero(limits: Array) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Unsigned 8-bit scale and zero point whose range holds the limits and 0."""
    low, high = min(float(limits[0]), 0.0), max(float(limits[1]), 0.0)
    scale = max(high - low, 1e-8) / 255
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)


def _symmetric(limits: Array) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Signed 8-bit scale and a zero point of 0: the same values as unsigned ones around 128."""
    top = float(np.abs(limits).max())
    scale, _ = _scale_and_zero(np.array([-top, top], np.float32))
    return scale, np.array(0, np.int8)


def _blocks(recipe: Recipe) -> Writer:
    """MatMulNBits: 4-bit weights with a scale for every block of inputs."""
    block = recipe.block
    level = BLOCKS_OF_INTEGERS if recipe.activations == "dynamic" else 0

    def write(graph: OnnxGraph, layer: OnnxLayer, bits: int, ranges: Ranges) -> None:
        inputs, outputs = layer.weight.shape
        blocks = -(-inputs // block)
        padded = np.zeros((outputs, blocks * block), np.float32)
        padded[:, :inputs] = layer.weight.T
        values, scale = quantized(padded.reshape(-1, block), min(bits, 4), 0)
        nibbles = (values + 8).astype(np.uint8).reshape(outputs, blocks, block // 2, 2)
        packed = nibbles[..., 0] | nibbles[..., 1] << 4
        names = [
            layer.source,
            graph.constant(_named(layer, "weight:blocks4"), packed),
            graph.constant(_named(layer, "scale"), scale.reshape(-1)),
        ]
        attributes = {"K": inputs, "N": outputs, "bits": 4, "block_size": block}
        graph.add(
            *("MatMulNBits", names, _product(layer), CONTRIB),
            accuracy_level=level,
            **attributes,
        )
        _bias(graph, layer, _product(layer))

    return write
