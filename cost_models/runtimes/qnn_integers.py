"""Static integers for Qualcomm's NPUs: weights in 8 bits and activations in 16, all of a graph.

That is what ONNX Runtime's guide to QNN recommends (A16W8): asymmetric scales of whole tensors,
from the ranges that images show. Every operator is between a QuantizeLinear and a DequantizeLinear,
since an NPU multiplies integers only where all that an operator takes and makes are such.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .scratch import scratch

if TYPE_CHECKING:
    import onnx


def static_integers(model: onnx.ModelProto, images: NDArray[np.float32]) -> onnx.ModelProto:
    """The same graph in integers, with what it says of itself.

    Args:
        model: a graph in float32, of static shapes.
        images: (N, C, S, S), from which ranges are taken, as many at once as the graph takes.
    """
    import onnx

    tools: Any = import_module("onnxruntime.quantization")
    qnn: Any = import_module("onnxruntime.quantization.execution_providers.qnn")
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]  # of which the preparation makes an error
    (given,) = model.graph.input
    batch = given.type.tensor_type.shape.dim[0].dim_value
    batches = (images[i : i + batch] for i in range(0, len(images) - batch + 1, batch))
    feeds = iter([{given.name: np.ascontiguousarray(each, np.float32)} for each in batches])

    class Reader(tools.CalibrationDataReader):  # pyright: ignore[reportUntypedBaseClass]
        def get_next(self) -> Mapping[str, Any] | None:
            return next(feeds, None)

    with scratch() as folder, _quiet():
        plain, ready, made = (folder / f"{name}.onnx" for name in ("plain", "ready", "made"))
        onnx.save(bare, plain)
        if not qnn.qnn_preprocess_model(plain, ready):  # nothing was in the way
            ready = plain
        settings = qnn.get_qnn_qdq_config(
            ready,
            Reader(),
            activation_type=tools.QuantType.QUInt16,
            weight_type=tools.QuantType.QUInt8,
        )
        tools.quantize(ready, made, settings)
        integers = onnx.load(made)
    onnx.helper.set_model_props(integers, {p.key: p.value for p in model.metadata_props})
    return integers


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep advice on how to prepare a graph, which ours is, from the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
