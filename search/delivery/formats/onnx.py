"""ONNX: quantized by recipes, with metadata inside and a program that runs it beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import onnx
from google.protobuf.message import DecodeError

from ....cost_models import Device
from ....cost_models.graphs.files import network_file
from ....cost_models.graphs.modules import input_shape
from ....cost_models.graphs.to_onnx import to_onnx
from ....spaces.errors import RunError
from ..build import Build
from ..kernel_inventory import inventory_of
from ..page import RUNTIMES, page
from ..preprocessing import Preprocessing, metadata
from ..program import onnxruntime, openvino, predict
from ..program.assemble import program
from . import PREDICT, Format

PARTS = {"openvino": openvino}  # of the program; any other runtime of such files is ONNX Runtime's


def encode(build: Build, device: Device, preprocessing: Preprocessing | None) -> bytes:
    """Encode the graph of a build as its device reads it.

    Raises:
        CostError: a precision that the device cannot run, or a conversion that is wrong.
    """
    # The same exporter as in calibration, so that the measured graph is the delivered one.
    graph = to_onnx(build.ready, input_shape(build.candidate, device.batch))
    return encode_graph(graph, build, device, preprocessing)


def encode_graph(
    graph: onnx.ModelProto, build: Build, device: Device, preprocessing: Preprocessing | None
) -> bytes:
    """Encode the float graph of a build, or of a part of it, in its precision.

    Raises:
        CostError: a precision that the device cannot run, or a conversion that is wrong.
    """
    candidate = build.candidate
    about = {k: json.dumps(v) for k, v in metadata(candidate, preprocessing).items()}
    limits = build.seen.limits
    return network_file(device, graph, candidate, build.recipes, about, limits).content


def companions(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    """Give a program that classifies images with the file, and for browsers a page, too."""
    if device.runtime not in RUNTIMES:
        return {PREDICT: program(device, PARTS.get(device.runtime, onnxruntime))}
    here = replace(device, provider=predict.PROVIDER)
    shown = page(build.candidate, device, preprocessing, ONNX.file)
    return {PREDICT: program(here, onnxruntime), **shown}


def check(content: bytes) -> None:
    """Check that a file is self-contained.

    Raises:
        RunError: it is damaged, or keeps tensors in other files, which are not trusted.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise RunError("damaged: not an ONNX file") from error
    for tensor in tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise RunError(f"keeps {tensor.name!r} in another file, which is not followed")


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All constants of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors(inner)


ONNX = Format("model.onnx", encode, companions, inventory_of, check, predicted=True)
