"""XNNPACK's graph, made of one that TFLite has: its operators are nearly a subset of those.

So images are channels last, and all that is known about TFLite's operators holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tflite.flatbuffer import NONE, TfliteGraph

INVALID = 0xFFFFFFFF  # id of a value that is none
GIVEN, ANSWER = 1, 2  # flags of values, and ids + 1 of those of the outside
ALIGNED = 16  # bytes on which each constant begins

Node = dict[str, Any]


class XnnpackGraph:
    """Values and nodes so far.

    Args:
        source: graph of TFLite.
        image: its input.
        output: its output.
    """

    def __init__(self, source: TfliteGraph, image: int, output: int) -> None:
        self.source, self._image, self._output = source, image, output
        self._nodes: list[Node] = []
        self._values: list[dict[str, Any]] = []
        self._known: dict[int, int] = {}
        self._data = bytearray()
        # An offset for each constant; the first stands for none.
        self._offsets: list[dict[str, Any]] = [{"offset": 0, "size": 0}]

    def encode(self) -> tuple[dict[str, Any], bytes]:
        """The graph, as schema.fbs of ExecuTorch's XNNPACK has it, and its constants."""
        given, answer = self.value(self._image), self.value(self._output)
        graph = {
            "version": "0",
            "xnodes": self._nodes,
            "xvalues": self._values,
            "num_externs": 2,
            "input_ids": [given],
            "output_ids": [answer],
            "constant_data": self._offsets,
        }
        return graph, bytes(self._data)

    def value(self, tensor: int) -> int:
        """Id of a value of TFLite's graph; constants are added when they are asked for."""
        if tensor == NONE:
            return INVALID
        if tensor not in self._known:
            data = self.source.value(tensor)
            shape = self.source.shape(tensor)
            if data is None:
                flags = {self._image: GIVEN, self._output: ANSWER}.get(tensor, 0)
                self._known[tensor] = self.made(shape, flags)
            else:
                self._known[tensor] = self.constant(data.astype(np.float32))
        return self._known[tensor]

    def give(self, tensor: int, value: int) -> None:
        """A value of TFLite's graph is one that was added."""
        self._known[tensor] = value

    def made(self, shape: Sequence[int], flags: int = 0) -> int:
        """Add a value that is computed, or comes from outside."""
        return self._added(_tensor(shape, flags))

    def rounded(self, shape: Sequence[int], inner: int) -> int:
        """Add a value whose elements are integers, with a scale for all but its last axes."""
        quant = {"num_nonbatch_dims": inner}
        return self._quantized(
            _tensor(shape, 0, "xnn_datatype_qdint8"), "PerTokenDynamicQuant", quant
        )

    def constant(self, value: NDArray[Any]) -> int:
        """Add floats."""
        return self._added(_tensor(value.shape) | {"constant_buffer_idx": self._kept(value)})

    def integers(self, value: NDArray[Any], scales: NDArray[np.float32], axis: int) -> int:
        """Add integers with a scale for each channel."""
        tensor = _tensor(value.shape, 0, "xnn_datatype_qcint8")
        tensor["constant_buffer_idx"] = self._kept(value)
        quant = {
            "scale": [],
            "channel_dim": axis,
            "scale_buffer_idx": self._kept(scales),
            "num_scales": scales.size,
        }
        return self._quantized(tensor, "PerChannelQuant", quant)

    def add(self, kind: str, limits: tuple[float, float] | None = None, **fields: Any) -> None:
        """Add a node.

        Args:
            kind: name of XNNPACK's node, without "XNN".
            limits: least and largest number of its result.
            fields: of its table.
        """
        node: Node = {
            "xnode_union_type": f"XNN{kind}",
            "xnode_union": {"flags": 0} | fields,
            "debug_handle": len(self._nodes),
        }
        if limits:
            low, high = (x if np.isfinite(x) else repr(x) for x in limits)
            node["output_min_max"] = {"output_min": low, "output_max": high}
        self._nodes.append(node)

    def _added(self, tensor: dict[str, Any]) -> int:
        tensor["id_out"] = len(self._values)
        self._values.append({"xvalue_union_type": "XNNTensorValue", "xvalue_union": tensor})
        return tensor["id_out"]

    def _quantized(self, tensor: dict[str, Any], kind: str, quant: Mapping[str, Any]) -> int:
        tensor["id_out"] = len(self._values)
        union = {"tensor_value": tensor, "quant_params_type": kind, "quant_params": quant}
        self._values.append({"xvalue_union_type": "XNNQuantizedTensorValue", "xvalue_union": union})
        return tensor["id_out"]

    def _kept(self, value: NDArray[Any]) -> int:
        """Number of a constant's bytes."""
        content = np.ascontiguousarray(value).tobytes()
        self._data += bytes(-len(self._data) % ALIGNED)
        place = {"offset": len(self._data), "size": len(content)}
        self._offsets.append(place)
        self._data += content
        return len(self._offsets) - 1


def _tensor(
    shape: Sequence[int], flags: int = 0, kind: str = "xnn_datatype_fp32"
) -> dict[str, Any]:
    return {
        "datatype": kind,
        "num_dims": len(shape),
        "dims": [int(n) for n in shape],
        "constant_buffer_idx": 0,
        "external_id": flags - 1 if flags else INVALID,
        "flags": flags,
    }
