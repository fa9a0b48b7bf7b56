"""Files: sub-blocks and networks as a device's runtime reads them, in the precision of recipes.

A runtime that reads ONNX gets the graph itself. Others convert it, and no conversion is believed
before its answers are those of ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray

from ...spaces import Candidate
from ...spaces.errors import CostError
from ..device import Device
from ..runtime_spec import ONNX, find_runtime
from ..runtimes import open_runtime
from ..stored_weights import StoredWeights
from ..units.precision_recipes import Book, packs_zeros
from .quantize import (
    Limits,
    apply_recipe,
    apply_recipes,
    stored_by_recipe,
    stored_by_recipes,
    with_weights,
)
from .short_names import body_bytes
from .to_onnx import chained
from .zeros import without_zeros

Array = NDArray[np.float32]
CLOSE = 1e-4  # of answers to those of ONNX Runtime, relative to the largest
HALF = 3e-2  # the same in float16
LIKE = 0.5  # the same where kernels round activations; wrong ones are at 1 and more
REFERENCE = Device("reference", "onnxruntime", "CPUExecutionProvider", 1, ("float",))


@dataclass(frozen=True)
class GraphFile:
    """A file of a runtime.

    Attributes:
        content: of the file.
        body_bytes: of a network the whole file; of a sub-block what it adds to one.
        nodes: of the ONNX graph that it was made of.
    """

    content: bytes
    body_bytes: int
    nodes: int


def unit_file(device: Device, model: onnx.ModelProto, recipe: str, copies: int) -> GraphFile:
    """A sub-block as a file, several times in a row.

    Args:
        device: whose runtime reads it.
        model: float graph of the sub-block.
        recipe: on every layer.
        copies: how many.

    Raises:
        CostError: the runtime cannot hold the recipe, or its converter does not know an operator
            or is wrong.
    """
    if find_runtime(device.runtime).format == ONNX:
        model = apply_recipe(model, recipe)
        size, row = body_bytes(model.graph), chained(model, copies)
        return GraphFile(row.SerializeToString(), size, len(row.graph.node))
    # One is compared; a row of equal ones is only timed.
    one = converted(device, model, stored_by_recipe(model, recipe))
    if copies == 1:
        return GraphFile(one, len(one) - _empty_bytes(device), len(model.graph.node))
    row = chained(model, copies)
    content = open_runtime(device).convert(row, stored_by_recipe(row, recipe), {})
    size = (len(content) - len(one)) // (copies - 1)
    return GraphFile(content, size, len(row.graph.node))


def network_file(
    device: Device,
    model: onnx.ModelProto,
    candidate: Candidate,
    recipes: Book | Sequence[str],
    about: Mapping[str, str],
    limits: Mapping[str, Limits] | None = None,
) -> GraphFile:
    """A network as a file, in the candidate's own precision.

    Args:
        device: whose runtime reads it.
        model: float graph of the network.
        candidate: with its policies.
        recipes: by which the device runs each precision.
        about: texts that the file holds, by name.
        limits: ranges of activations, as for `quantize.apply_recipes`.

    Raises:
        CostError: a precision that the device cannot run, or a converter that does not know an
            operator or is wrong.
    """
    if find_runtime(device.runtime).format == ONNX:
        graph = apply_recipes(model, candidate, recipes, limits)
        if packs_zeros(device.runtime):
            graph = without_zeros(graph)
        onnx.helper.set_model_props(graph, dict(about))
        onnx.checker.check_model(graph)
        content, nodes = graph.SerializeToString(), len(graph.graph.node)
    else:
        weights = stored_by_recipes(model, candidate, recipes)
        content, nodes = converted(device, model, weights, about), len(model.graph.node)
    return GraphFile(content, len(content), nodes)


def converted(
    device: Device,
    model: onnx.ModelProto,
    weights: Mapping[str, StoredWeights],
    about: Mapping[str, str] | None = None,
) -> bytes:
    """A file that a runtime makes of an ONNX graph, with answers like those of ONNX Runtime.

    Kernels that round activations answer a little differently, and where tokens are ranked, others
    are kept in another order. So the same file with float kernels is compared too, exactly.

    Raises:
        CostError: an operator has no conversion, or the answers differ.
    """
    runtime = open_runtime(device)
    content = runtime.convert(model, weights, about or {})
    wanted = open_runtime(REFERENCE).compile(with_weights(model, weights))
    rng = np.random.default_rng(0)
    x = rng.standard_normal(wanted.input_shape).astype(np.float32)
    answer = wanted.run(x)
    rounds = any(stored.integer_kernel for stored in weights.values())
    if rounds:
        floats = {n: replace(stored, integer_kernel=False) for n, stored in weights.items()}
        twin = runtime.compile(runtime.convert(model, floats, {}))
        _check(device, twin.run(x), answer, CLOSE)
    compiled, spec = runtime.compile(content), find_runtime(device.runtime)
    half = bool(spec.half_kernels) and spec.rounds(compiled.kernels())
    _compare(device, model, compiled.run(x), answer, LIKE if rounds else HALF if half else CLOSE)
    return content


def check_answers(device: Device, content: bytes) -> None:
    """Run an ONNX file in a device's runtime, and check its answers against ONNX Runtime's.

    Raises:
        CostError: the runtime refuses the file, or answers otherwise.
    """
    opened = open_runtime(device).compile(content)
    x = np.random.default_rng(0).standard_normal(opened.input_shape).astype(np.float32)
    found = opened.run(x)
    if (device.runtime, device.provider) == (REFERENCE.runtime, REFERENCE.provider):
        return
    answer = open_runtime(REFERENCE).compile(content).run(x)
    rounds = find_runtime(device.runtime).rounds(opened.kernels())
    model = onnx.load_model_from_string(content)
    _compare(device, model, found, answer, LIKE if rounds else CLOSE)


def _compare(
    device: Device, model: onnx.ModelProto, found: Array, wanted: Array, most: float
) -> None:
    """Check answers; tokens that rounded kernels rank may come in another order."""
    ranks = any(node.op_type == "TopK" for node in model.graph.node)
    if most > CLOSE and ranks and found.shape == wanted.shape:
        found, wanted = np.sort(found, axis=None), np.sort(wanted, axis=None)
    _check(device, found, wanted, most)


def _check(device: Device, found: Array, wanted: Array, most: float) -> None:
    if found.shape != wanted.shape:
        raise CostError(
            f"{device.runtime}: the model answers in shape {list(found.shape)}, ONNX Runtime in "
            f"{list(wanted.shape)}"
        )
    distance = np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())
    if not distance <= most:
        raise CostError(
            f"{device.runtime}: the model answers {distance:.2g} away from ONNX Runtime, "
            f"relative to its largest answer; {most:g} is allowed"
        )


@cache
def _empty_bytes(device: Device) -> int:
    """Bytes of a file that does next to nothing."""
    kind = onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(name, kind, [1, 1]) for name in ("images", "logits")]
    node = onnx.helper.make_node("Relu", ["images"], ["logits"])
    graph = onnx.helper.make_graph([node], "empty", ends[:1], ends[1:])
    opsets = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    return len(open_runtime(device).convert(model, {}, {}))
