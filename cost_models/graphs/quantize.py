"""Quantize: store and compute the layers of an ONNX graph at lower precision.

Only layers with constant weights and dense convolutions change; norms, softmax, activations and
residuals stay in float32. See `precision_recipes.RECIPES` for what each recipe is, and
`layer_writers` for how it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx

from ...spaces import Candidate
from ...spaces.compression import INTEGER_BITS
from ...spaces.errors import CostError
from ..stored_weights import StoredWeights
from ..units.precision_recipes import Book, Recipe, find_recipe, recipe_for
from .layer_writers import Array, Ranges, quantized, scale_axis, writer_of
from .linear_layers import OnnxGraph, OnnxLayer, is_transposed

Find = Callable[[OnnxLayer], tuple[Recipe, int]]  # the recipe of a layer, and bits of its weights
FLOAT = find_recipe("float")  # leaves a layer as it is


class Limits(NamedTuple):
    """Fixed ranges around a layer.

    Attributes:
        entering: lowest and highest input (2,).
        leaving: lowest and highest output (2,).
    """

    entering: Array
    leaving: Array


def apply_recipe(
    model: onnx.ModelProto, name: str, ranges: Ranges | None = None, weight_bits: int = 0
) -> onnx.ModelProto:
    """One recipe on every layer of a graph.

    Args:
        model: a float graph as `graphs.to_onnx` makes it.
        name: of the recipe.
        ranges: tensor -> lowest and highest value, for static recipes; a fixed range where absent,
            which is enough for latency.
        weight_bits: levels of a weight, 2 to the power of it; those of the recipe by default.

    Raises:
        UnknownNameError: no such recipe.
    """
    return _rewrite(model, _everywhere(name, weight_bits), ranges or {})


def apply_recipes(
    model: onnx.ModelProto,
    candidate: Candidate,
    recipes: Book | Sequence[str],
    limits: Mapping[str, Limits] | None = None,
) -> onnx.ModelProto:
    """A candidate's precision, sub-block by sub-block.

    Args:
        model: the float graph of the candidate's network, from `graphs.to_onnx`.
        candidate: its policies.
        recipes: what the device runs each group with, as `CostModel.recipes` has it, or the
            recipes of the device.
        limits: of every layer whose activations have fixed scales, by the name of its module; a
            fixed range by default, which is enough for latency.

    Raises:
        CostError: a precision that the device cannot run, or a layer without limits.
    """
    find = _by_place(candidate, recipes)
    ranges = {} if limits is None else _ranges(model, lambda layer: find(layer)[0], limits)
    return _rewrite(model, find, ranges)


def stored_by_recipe(model: onnx.ModelProto, name: str) -> dict[str, StoredWeights]:
    """Weights of every layer of a graph as one recipe stores them, by their names in the graph.

    Raises:
        UnknownNameError: no such recipe.
        CostError: one that only ONNX graphs can hold.
    """
    return _stored_weights(model, _everywhere(name))


def stored_by_recipes(
    model: onnx.ModelProto, candidate: Candidate, recipes: Book | Sequence[str]
) -> dict[str, StoredWeights]:
    """Weights of a network as its candidate's precision stores them; see `apply_recipes`.

    Raises:
        CostError: a precision that the device cannot run, or a recipe for ONNX graphs alone.
    """
    return _stored_weights(model, _by_place(candidate, recipes))


def with_weights(model: onnx.ModelProto, weights: Mapping[str, StoredWeights]) -> onnx.ModelProto:
    """The float graph that computes with the numbers that are stored."""
    if not weights:
        return model
    graph = OnnxGraph(model)
    for node in graph.model.graph.node:
        layer = graph.layer(node)
        if layer is not None and (stored := weights.get(node.input[1])) is not None:
            tensor = graph.constants[node.input[1]]
            value = stored.floats.T if is_transposed(node) else stored.floats
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
    return graph.model


def _ranges(
    model: onnx.ModelProto, find: Callable[[OnnxLayer], Recipe], limits: Mapping[str, Limits]
) -> dict[str, Array]:
    """Range of every activation that a static recipe quantizes, the widest of its readers."""
    ranges: dict[str, Array] = {}
    for layer in OnnxGraph(model).layers():
        if find(layer).activations != "static":
            continue
        if layer.module not in limits:
            raise CostError(f"layer {layer.module!r} has fixed scales, and was not calibrated")
        around = limits[layer.module]
        low, high = around.entering
        known = ranges.get(layer.source, around.entering)
        ranges[layer.source] = np.array([min(low, known[0]), max(high, known[1])], np.float32)
        if layer.is_conv:
            ranges[layer.result] = around.leaving
    return ranges


def _everywhere(name: str, weight_bits: int = 0) -> Find:
    """The same for every layer but scores of routers, which belong to no policy."""
    recipe = find_recipe(name)
    bits = weight_bits or recipe.weights
    return lambda layer: (FLOAT, FLOAT.weights) if layer.is_router else (recipe, bits)


def _by_place(candidate: Candidate, recipes: Book | Sequence[str]) -> Find:
    """Recipe and bits of a layer by the sub-block that it belongs to."""
    from .modules import locate

    units = locate(candidate)
    chosen = {path: find_recipe(recipe_for(unit, recipes)) for path, unit in units.items()}

    def find(layer: OnnxLayer) -> tuple[Recipe, int]:
        path = layer.module
        while path not in units:
            path, dot, _ = path.rpartition(".")
            if not dot:
                return FLOAT, FLOAT.weights
        return chosen[path], units[path].policy.weight_bits

    return find


def _stored_weights(model: onnx.ModelProto, find: Find) -> dict[str, StoredWeights]:
    weights: dict[str, StoredWeights] = {}
    for layer in OnnxGraph(model).layers():
        recipe, bits = find(layer)
        kept = recipe.of_convs if layer.is_conv else recipe
        if kept == FLOAT:
            continue
        if kept.layout == "blocks" or kept.activations == "static":
            raise CostError(f"recipe {recipe.name!r} is for runtimes that read ONNX")
        if kept.weights > INTEGER_BITS:
            stored = StoredWeights(layer.weight.astype(np.float16))
        else:
            used = min(bits, kept.value_bits)
            values, scale = quantized(layer.weight, used, scale_axis(kept, layer))
            stored = StoredWeights(values, scale, kept.weights, kept.activations == "dynamic")
        weights[layer.node.input[1]] = stored
    return weights


def _rewrite(model: onnx.ModelProto, find: Find, ranges: Ranges) -> onnx.ModelProto:
    graph = OnnxGraph(model)
    for node in model.graph.node:
        layer = graph.layer(node)
        recipe, bits = find(layer) if layer is not None else (FLOAT, FLOAT.weights)
        if layer is None or recipe == FLOAT:
            graph.nodes.append(node)
            continue
        kept = recipe.of_convs if layer.is_conv else recipe
        writer_of(kept)(graph, layer, min(bits, kept.value_bits), ranges)
    return graph.finish()
