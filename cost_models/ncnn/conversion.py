"""Conversion: what is known of an ONNX graph while it is written as a file of ncnn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from ...spaces.errors import CostError
from ..onnx_reading import OnnxReading, told_of
from ..stored_weights import StoredWeights
from .axes import MOST, grouped, lengths, merged, plain
from .graph import NcnnGraph, Param, floats
from .turning import Step, in_steps

Node = onnx.NodeProto
INPUT, OUTPUT = "input_shape", "output_shape"  # of what a file says of itself
SIDES = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}  # rank -> keys of lengths, as they lie
ORDERS = {  # letters of the axes as they lie -> those of the result, by number from the inside
    2: ("HW", "WH HW"),
    3: ("CHW", "WHC HWC WCH CWH HCW CHW"),
    4: (
        "CDHW",
        "WHDC HWDC WDHC DWHC HDWC DHWC WHCD HWCD WCHD CWHD HCWD CHWD "
        "WDCH DWCH WCDH CWDH DCWH CDWH HDCW DHCW HCDW CHDW DCHW CDHW",
    ),
}


@dataclass(frozen=True)
class Blob:
    """A value that is made.

    Attributes:
        name: in the file.
        lies: lengths of its axes there, the outermost first, without the batch.
    """

    name: str
    lies: tuple[int, ...]


@dataclass(frozen=True)
class Turned:
    """A value whose axes are to be in another order, which is made where it is read.

    Attributes:
        source: the value.
        axes: order of its axes.
    """

    source: str
    axes: tuple[int, ...]


class Conversion(OnnxReading):
    """One conversion: the values of the ONNX graph that have been made so far.

    ncnn has no batch: the file runs one image, and its caller one after the other. So shapes are
    those of one image here, whose first axis is the batch's length shorter.

    Attributes:
        graph: the file so far.
    """

    target = "ncnn"

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, StoredWeights]) -> None:
        super().__init__(model, weights)
        self.graph = NcnnGraph()
        self.batch = super().shape(self._input.name)[0]
        self._values: dict[str, Blob | Turned] = {}
        self._reshaped: dict[tuple[str, tuple[int, ...]], Blob] = {}
        self._unshaped: dict[str, Blob] = {}  # what a Reshape makes -> what it was made of
        lies = plain(self.shape(self._input.name))
        (self._given,) = self.graph.add("Input", [], sides(lies))
        self.give(self._input.name, Blob(self._given, lies))

    def encode(self, about: Mapping[str, str]) -> bytes:
        """The file."""
        answer = self.laid(self._output.name, plain(self.shape(self._output.name)))
        if answer.name == self._given:
            answer = self.made("Noop", [answer], answer.lies)
        ends = {INPUT: super().shape(self._input.name), OUTPUT: super().shape(self._output.name)}
        return self.graph.encode(self._given, answer.name, ends | told_of(about))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value for one image; of constants as they are."""
        shape = super().shape(name)
        if name in self.constants or self.batch == 1:
            return shape
        if not shape or shape[0] % self.batch:
            self.check_batch(self.makers[name], [0])
        return (shape[0] // self.batch, *shape[1:])

    def constant(self, name: str, shape: Sequence[int]) -> NDArray[np.float32]:
        """A constant that meets values of a shape: what it is for the first image of a batch."""
        value = self.constants[name].astype(np.float32)
        value = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
        if value.ndim and value.shape[0] == shape[0] * self.batch and self.batch > 1:
            return value[: shape[0]]
        return value

    def give(self, name: str, value: Blob | Turned) -> None:
        """A value of the ONNX graph is made, or is another one turned."""
        self._values[name] = value

    def turned(self, name: str) -> Turned:
        """A value as one that was turned."""
        value = self._values.get(name)
        if isinstance(value, Turned):
            return value
        return Turned(name, tuple(range(len(self.shape(name)))))

    def blob(self, name: str) -> Blob:
        """A value as it lies."""
        if name in self.constants:
            value = self.constants[name]
            return self.data(value, plain(value.shape))
        value = self._values[name]
        if isinstance(value, Turned):
            value = self._values[name] = self.permuted(value)
        return value

    def laid(self, name: str, lies: Sequence[int]) -> Blob:
        """A value with its elements in memory as they are, and these axes."""
        if name in self.constants:
            return self.data(self.constants[name], lies)
        return self.reshaped(self.blob(name), lies)

    def data(self, value: NDArray[np.generic], lies: Sequence[int]) -> Blob:
        """A constant."""
        lies = tuple(lies)
        (made,) = self.graph.add("MemoryData", [], sides(lies), floats(value))
        return Blob(made, lies)

    def reshaped(self, blob: Blob, lies: Sequence[int]) -> Blob:
        """The same elements with other axes.

        Raises:
            CostError: there would be more or fewer, of which ncnn says nothing.
        """
        if prod(lies) != prod(blob.lies):
            raise CostError(f"ncnn: {list(blob.lies)} cannot be reshaped to {list(lies)}")
        source, lies = self._unshaped.get(blob.name, blob), tuple(lies)
        if source.lies == lies:
            return source
        if blob.lies == lies:
            return blob
        if (source.name, lies) not in self._reshaped:
            made = self.made("Reshape", [source], lies, sides(lies))
            self._reshaped[source.name, lies] = made
            self._unshaped[made.name] = source
        return self._reshaped[source.name, lies]

    def permuted(self, value: Turned) -> Blob:
        """Axes in another order; those that stay together count as one.

        Raises:
            CostError: they are too many, in one step and in two.
        """
        shape = self.shape(value.source)
        axes = tuple(axis for axis in value.axes if shape[axis] > 1)
        steps = in_steps(axes)
        if steps is None:
            node = self.makers[value.source]
            raise self.refusal(node, f"is turned in {len(axes)} axes; ncnn has {MOST}")
        blob = self.blob(value.source)
        for step in steps:
            blob = self._permuted(blob, [shape[axis] for axis in step.before], step)
        return blob

    def _permuted(self, blob: Blob, shape: Sequence[int], step: Step) -> Blob:
        if len(step.groups) < 2:
            return blob
        given = self.reshaped(blob, lengths(shape, step.groups))
        letters, orders = ORDERS[len(step.groups)]
        wanted = "".join(letters[place] for place in reversed(step.order))
        lies = tuple(given.lies[place] for place in step.order)
        return self.made("Permute", [given], lies, {0: orders.split().index(wanted)})

    def made(
        self,
        kind: str,
        inputs: Sequence[Blob],
        lies: Sequence[int],
        params: Mapping[int, Param] | None = None,
        weights: bytes = b"",
        name: str = "",
    ) -> Blob:
        """Add a layer with one result."""
        (made,) = self.graph.add(kind, [x.name for x in inputs], params, weights, name=name)
        return Blob(made, tuple(lies))

    def apart(self, node: Node, name: str, kinds: Sequence[object]) -> tuple[Blob, list[list[int]]]:
        """A value of which axes of several kinds lie apart, and the axes that each is made of.

        Args:
            node: that reads it.
            name: of the value.
            kinds: of its axes: neighbors of one kind need not be apart.

        Raises:
            CostError: there are too many.
        """
        shape = self.shape(name)
        if name not in self.constants:
            blob = self.blob(name)
            groups = grouped(shape, blob.lies)
            if groups and all(len({kinds[axis] for axis in group}) < 2 for group in groups):
                return blob, groups
        groups = merged(shape, kinds) or [[]]
        if len(groups) > MOST:
            raise self.refusal(node, f"needs {len(groups)} axes; ncnn has {MOST}")
        return self.laid(name, lengths(shape, groups)), groups

    def along(self, node: Node, name: str, axis: int) -> tuple[Blob, int]:
        """A value of which one axis lies apart from the others, and its place in memory."""
        self.check_batch(node, [axis])
        return self.alone(self.blob(name), self.shape(name), axis)

    def alone(self, blob: Blob, shape: Sequence[int], axis: int) -> tuple[Blob, int]:
        """The same of a value of some shape."""
        groups = grouped(shape, blob.lies)
        if groups and [axis] in groups:
            return blob, groups.index([axis])
        lies = around(shape, axis)
        return self.reshaped(blob, lies), int(prod(shape[:axis]) > 1)

    def check_batch(self, node: Node, axes: Iterable[int]) -> None:
        """Check that a node leaves the images of a batch apart.

        Raises:
            CostError: it works along the first of its axes.
        """
        if self.batch > 1 and 0 in axes:
            raise self.refusal(node, "mixes the images of a batch")


Writer = Callable[[Conversion, Node], None]


def sides(lies: Sequence[int]) -> dict[int, Param]:
    """Numbers of a layer that say the lengths of axes, as they lie."""
    return dict(sorted(zip(SIDES[len(lies)], lies, strict=True)))


def around(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """Lengths of an axis and of all that is around and inside it, where there is something."""
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    return (*([outer] if outer > 1 else []), shape[axis], *([inner] if inner > 1 else []))
