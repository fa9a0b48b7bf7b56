"""Conversion: what is known of an ONNX graph while it is written as a TFLite file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..onnx_reading import OnnxReading
from ..stored_weights import StoredWeights
from .flatbuffer import Scales, TfliteGraph
from .view import View, plainly, regrouped

CHANNELS_LAST = (0, 2, 3, 1)


class Conversion(OnnxReading):
    """One conversion: the values of the ONNX graph that have been made so far.

    Attributes:
        graph: the file so far.
    """

    target = "LiteRT"

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, StoredWeights]) -> None:
        super().__init__(model, weights)
        self.graph = TfliteGraph()
        self._views: dict[str, View] = {}
        self._moved: dict[tuple[int, tuple[int, ...]], int] = {}  # tensor and axes -> moved
        self._unshaped: dict[int, int] = {}  # what a Reshape makes -> what it was made of
        shape = tuple(self._shapes[self._input.name])
        order = image_order(len(shape))
        lies = tuple(shape[axis] for axis in order)
        self._image = self.graph.tensor(lies, name=self._input.name)
        self.give(self._input.name, View(self._image, lies, order))

    def encode(self, about: Mapping[str, str]) -> bytes:
        """The file."""
        return self.graph.encode(*self.ends(), about)

    def ends(self) -> tuple[int, int]:
        """Tensors of the input and of the output."""
        result = self._views[self._output.name]
        return self._image, self.laid(result, image_order(len(result.lies))).tensor

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


def image_order(rank: int) -> tuple[int, ...]:
    """Order in which an input or a result lies: of images, channels last."""
    return CHANNELS_LAST if rank == 4 else tuple(range(rank))
