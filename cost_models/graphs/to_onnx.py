"""Export: a torch module as a clean ONNX graph whose weights keep the names of their modules."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from ..runtimes.onnxruntime import simplify
from ..runtimes.scratch import scratch
from .idle_nodes import without_idle
from .short_names import shorten

OPSET = 20  # LayerNormalization and Gelu are single operators
INPUT, OUTPUT = "images", "logits"


def to_onnx(
    module: nn.Module,
    input_shape: Sequence[int],
    fast: bool = True,
    seed: int = 0,
    outputs: Sequence[str] = (OUTPUT,),
) -> onnx.ModelProto:
    """Export with static shapes, constants folded and one input `images`.

    Args:
        module: what to export, in evaluation mode.
        input_shape: shape of its input, batch included.
        fast: the TorchScript exporter, 30 times faster than the default one; the executed
            kernels are the same, which `tests/cost_models` checks.
        seed: of the example input.
        outputs: names of what the module gives.
    """
    example = torch.randn(*input_shape, generator=torch.Generator().manual_seed(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters warn of their own future and of tracing
        export = _traced if fast else _captured
        model = export(module, example, [*outputs])
    _unalias(model.graph)
    _fold_transposes(model.graph)
    # ONNX Runtime refuses files from a future release of onnx, whatever is in them.
    model.ir_version = 10
    model = simplify(model)
    without_idle(model)
    model = _stripped(model)
    parameters, buffers = module.named_parameters(), module.named_buffers()
    shorten(model.graph, {name for name, _ in (*parameters, *buffers)})
    return model


def chained(model: onnx.ModelProto, copies: int) -> onnx.ModelProto:
    """The same graph several times in a row, each with weights of its own.

    Args:
        model: a graph whose output has the shape of its input.
        copies: how many.
    """
    if copies == 1:
        return model
    graph = model.graph
    first, last = graph.input[0].name, graph.output[0].name
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for copy in range(copies):
        names = {first: first if copy == 0 else f"{copy - 1}/{last}"}
        names |= {} if copy < copies - 1 else {last: last}
        for tensor in graph.initializer:
            constants.append(onnx.TensorProto())
            constants[-1].CopyFrom(tensor)
            constants[-1].name = f"{copy}/{tensor.name}"
        for node in graph.node:
            nodes.append(onnx.NodeProto())
            nodes[-1].CopyFrom(node)
            nodes[-1].name = f"{copy}/{len(nodes)}"
            for field in (nodes[-1].input, nodes[-1].output):
                for index, name in enumerate(field):
                    field[index] = names.get(name, f"{copy}/{name}") if name else ""
    row = helper.make_graph(nodes, graph.name, graph.input, graph.output, constants)
    return helper.make_model(row, opset_imports=model.opset_import, ir_version=model.ir_version)


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Constants of a graph by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def _traced(module: nn.Module, example: torch.Tensor, outputs: list[str]) -> onnx.ModelProto:
    with scratch() as folder:
        path = folder / "traced.onnx"
        _trace_to(path, module, example, outputs)
        return onnx.load(path)


def _trace_to(path: Path, module: nn.Module, example: torch.Tensor, outputs: list[str]) -> None:
    torch.onnx.export(
        module,
        (example,),
        path,
        dynamo=False,
        opset_version=OPSET,
        do_constant_folding=False,  # folding would rename the weights
        input_names=[INPUT],
        output_names=outputs,
    )


def _captured(module: nn.Module, example: torch.Tensor, outputs: list[str]) -> onnx.ModelProto:
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        input_names=[INPUT],
        output_names=outputs,
        optimize=False,  # folding would rename the weights
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _unalias(graph: onnx.GraphProto) -> None:
    """Remove the Identity nodes by which exporters let equal constants share their bytes."""
    known = initializers(graph)
    same: dict[str, str] = {}
    for node in list(graph.node):
        source = same.get(node.input[0], node.input[0]) if node.input else ""
        if node.op_type == "Identity" and source in known:
            same[node.output[0]] = source
            graph.node.remove(node)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in same:
                node.input[index] = same[name]


def _fold_transposes(graph: onnx.GraphProto) -> None:
    """Transpose constants now, so that a weight keeps its name."""
    known = initializers(graph)
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    renamed: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type != "Transpose" or node.input[0] not in known:
            continue
        name, (axes,) = node.input[0], (a.ints for a in node.attribute if a.name == "perm")
        value = numpy_helper.to_array(known[name]).transpose(axes)
        new = name if uses[name] == 1 else node.output[0]
        if uses[name] == 1:
            graph.initializer.remove(known[name])
        graph.initializer.append(numpy_helper.from_array(value.copy(), new))
        renamed[node.output[0]] = new
        graph.node.remove(node)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)


@lru_cache(maxsize=256)
def _defaults(kind: str, version: int, domain: str) -> frozenset[bytes]:
    """Attributes of an operator that say nothing, which exporters write or not."""
    attributes = onnx.defs.get_schema(kind, version, domain).attributes
    usual = [a.default_value for a in attributes.values() if a.default_value.name]
    if kind == "Reshape":  # no tensor here has a dimension of 0
        usual.append(helper.make_attribute("allowzero", 1))
    return frozenset(a.SerializeToString() for a in usual)


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Model to deliver: without unused constants and whatever only a debugger reads."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for node in graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
        usual = _defaults(node.op_type, versions[node.domain], node.domain)
        chosen = [a for a in node.attribute if a.SerializeToString() not in usual]
        del node.attribute[:]
        node.attribute.extend(chosen)
    slim = helper.make_graph(
        graph.node, "vitpareto", list(graph.input)[:1], graph.output, initializer=kept
    )
    opsets = [o for o in model.opset_import if o.domain == ""]
    return helper.make_model(slim, opset_imports=opsets, ir_version=model.ir_version)
