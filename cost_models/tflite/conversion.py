"""Conversion: what is known of an ONNX graph while it is written as a TFLite file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ...spaces.errors import CostError
from ..stored_weights import StoredWeights
from .flatbuffer import Scales, TfliteGraph
from .view import View, plainly, regrouped

CHANNELS_LAST = (0, 2, 3, 1)


class Conversion:
    """One conversion: the values of the ONNX graph that have been made so far.

    Attributes:
        graph: the file so far.
        constants: of the ONNX graph by name.
    """

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, StoredWeights]) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        self._shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
        self._weights = weights
        self.graph = TfliteGraph()
        self.nodes = list(model.graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self._readers = {name: node for node in self.nodes for name in node.input}
        self.uses = Counter(name for node in self.nodes for name in node.input)
        (self._input,), (self._output,) = model.graph.input, model.graph.output
        self.uses[self._output.name] += 1
        self._views: dict[str, View] = {}
        self._moved: dict[tuple[int, tuple[int, ...]], int] = {}  # tensor and axes -> moved
        self._unshaped: dict[int, int] = {}  # what a Reshape makes -> what it was made of
        self._absorbed: set[str] = set()
        shape = tuple(self._shapes[self._input.name])
        order = image_order(len(shape))
        lies = tuple(shape[axis] for axis in order)
        self._image = self.graph.tensor(lies, name=self._input.name)
        self.give(self._input.name, View(self._image, lies, order))

    def encode(self, about: Mapping[str, str]) -> bytes:
        """The file."""
        result = self._views[self._output.name]
        laid = self.laid(result, image_order(len(result.lies)))
        return self.graph.encode(self._image, laid.tensor, about)

    def refusal(self, node: onnx.NodeProto, why: str) -> CostError:
        """Error that names an operator, and a constant of it by which its place is known."""
        place = next((f" beside {name!r}" for name in node.input if name in self.constants), "")
        return CostError(f"LiteRT: operator {node.op_type}{place} {why}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value of the ONNX graph."""
        if name in self.constants:
            return self.constants[name].shape
        return tuple(self._shapes[name])

    def view(self, name: str) -> View:
        """A value; constants become tensors."""
        if name not in self._views:
            value = self.constants[name]
            if value.dtype == np.int64:
                value = value.astype(np.int32)
            self._views[name] = plainly(self.graph.constant(value), value.shape)
        return self._views[name]

    def give(self, name: str, view: View) -> None:
        """A value of the ONNX graph is made."""
        self._views[name] = view

    def plain(self, name: str) -> View:
        """A value, moved so that it lies as ONNX says."""
        view = self.view(name)
        return self.laid(view, range(len(view.order)))

    def laid(self, view: View, order: Sequence[int]) -> View:
        """A value, moved so that its axes have an order in memory."""
        order = tuple(order)
        if view.order == order:
            return view
        axes = tuple(view.order.index(axis) for axis in order)
        lies = tuple(view.lies[axis] for axis in axes)
        if (view.tensor, axes) not in self._moved:
            solid = [axis for axis in axes if view.lies[axis] > 1]
            if solid == sorted(solid):  # only axes of length 1 change their places
                moved = self.reshaped(view.tensor, lies)
            else:
                moved = self.made("TRANSPOSE", [view.tensor, self.whole(axes)], lies)
            self._moved[view.tensor, axes] = moved
        return View(self._moved[view.tensor, axes], lies, order)

    def reshaped(self, tensor: int, lies: Sequence[int]) -> int:
        """A tensor with another shape and the same elements one after the other."""
        source = self._unshaped.get(tensor, tensor)
        if self.graph.shape(source) == tuple(lies):
            return source
        options = ("Reshape", {"newShape": np.array(lies, np.int32)})
        made = self.made("RESHAPE", [source, self.whole(lies)], lies, options)
        self._unshaped[made] = source
        return made

    def regrouped(self, view: View, shape: Sequence[int]) -> View:
        """A value with another shape, moved only where its axes are not in the way."""
        fitting = regrouped(view, shape)
        if fitting is None:
            view = self.laid(view, range(len(view.order)))
            fitting = tuple(shape), tuple(range(len(shape)))
        lies, order = fitting
        return View(self.reshaped(view.tensor, lies), lies, order)

    def whole(self, values: Sequence[int] | Sequence[tuple[int, int]]) -> int:
        """A constant of whole numbers."""
        return self.graph.constant(np.array(values, np.int32), shared=True)

    def number(self, value: float) -> int:
        """A constant of one number."""
        return self.graph.constant(np.array(value, np.float32), shared=True)

    def made(
        self,
        kind: str,
        inputs: Sequence[int],
        lies: Sequence[int],
        options: tuple[str, Mapping[str, Any]] | None = None,
    ) -> int:
        """Add an operator with one result; its tensor."""
        out = self.graph.tensor(lies)
        self.graph.add(kind, inputs, [out], options)
        return out

    def fitted(self, value: NDArray[Any], view: View) -> int:
        """A constant that is combined with a value element by element, in the order of that."""
        spread = value.reshape((1,) * (len(view.order) - value.ndim) + value.shape)
        moved = spread.transpose(view.order)
        while moved.ndim > 1 and moved.shape[0] == 1:
            moved = moved[0]
        return self.graph.constant(moved.astype(np.float32))

    def absorb(self, node: onnx.NodeProto) -> str:
        """A node is part of the operator before it; name of what it makes."""
        self._absorbed.add(node.output[0])
        return node.output[0]

    def is_absorbed(self, node: onnx.NodeProto) -> bool:
        """Whether a node is part of an operator that is written already."""
        return node.output[0] in self._absorbed

    def followed(self, name: str, kinds: Sequence[str]) -> onnx.NodeProto | None:
        """The only reader of a value, if it is of some kind."""
        if self.uses[name] != 1:
            return None
        node = self._readers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def weight(self, name: str, axes: Sequence[int], scale_axis: int) -> int:
        """Tensor of a layer's weights, stored as the recipe says; floats where kernels want them.

        Args:
            name: of the weight in the ONNX graph.
            axes: in which the weight of a `StoredWeights` lies in the file.
            scale_axis: of the output channels in the file.
        """
        stored = self._weights[name]
        values, named = stored.values.transpose(axes), name
        if stored.scale is None:
            tensor = self.graph.constant(values, named)
        else:
            scales = Scales(stored.scale.reshape(-1).astype(np.float32), scale_axis)
            tensor = self.graph.constant(values, named, scales, stored.bits)
        if stored.integer_kernel or values.dtype == np.float32:
            return tensor
        return self.made("DEQUANTIZE", [tensor], values.shape, ("Dequantize", {}))

    def stored(self, name: str) -> StoredWeights | None:
        """How a layer is stored; None where nothing says."""
        return self._weights.get(name)


def image_order(rank: int) -> tuple[int, ...]:
    """Order in which an input or a result lies: of images, channels last."""
    return CHANNELS_LAST if rank == 4 else tuple(range(rank))
