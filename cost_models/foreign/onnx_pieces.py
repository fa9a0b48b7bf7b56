"""Pieces: an ONNX graph cut at the Adds where a residual stream meets its branch.

An Add closes a branch if one of its inputs is made from the other one and something was computed
in between. What lies between two branches, before the first and after the last are pieces too:
stem, downsampling, dropping of tokens, head.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from ...spaces.errors import CostError

_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger")
_CONVOLUTIONS = ("Conv", "ConvInteger")
_MOVES = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity")
_WORK = {*_PRODUCTS, *_CONVOLUTIONS, "AveragePool"}


class Linear(NamedTuple):
    """A product with constant weights; `length` is the number of rows that stand together."""

    rows: int
    length: int
    inputs: int
    outputs: int


class Product(NamedTuple):
    """A product of two activations."""

    batch: int
    rows: int
    inner: int
    columns: int


class Convolution(NamedTuple):
    """A convolution of so many output positions."""

    positions: int
    inputs: int
    outputs: int
    kernel: int
    groups: int


@dataclass
class Piece:
    """Nodes between two cuts.

    Attributes:
        is_branch: whether it ends with the Add that returns it to its stream.
        enters: shape of what it is made from; of the first, the input of the graph.
        leaves: shape of what it makes.
        kinds: of its nodes.
        linears: in their order.
        products: in their order.
        convolutions: in their order.
        added: shapes of constants that are added.
        rank: the most dimensions of anything in it.
        last: kind of the node before the Add.
        blocks: for each layer with weights in 4-bit blocks, whether they are multiplied as int8.
        values: names of what its nodes make, in their order.
        constants: stored constants that it reads, directly or as what is computed of them alone.
    """

    is_branch: bool
    enters: list[int]
    leaves: list[int]
    kinds: set[str] = field(default_factory=set)
    linears: list[Linear] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    convolutions: list[Convolution] = field(default_factory=list)
    added: list[list[int]] = field(default_factory=list)
    rank: int = 0
    last: str = ""
    blocks: list[bool] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        linear = sum(x.rows * x.inputs * x.outputs for x in self.linears)
        product = sum(prod(x) for x in self.products)
        return (
            linear
            + product
            + sum(c.positions * c.inputs * c.outputs * c.kernel**2 // c.groups
                  for c in self.convolutions)
        )  # fmt: skip


def read_pieces(path: Path) -> list[Piece]:
    """The pieces of a file, in the order of execution.

    Raises:
        CostError: it cannot be read, or its shapes are not static.
    """
    model = _read(path)
    try:
        return pieces_of(model)
    except CostError as error:
        raise CostError(f"{path}: {error}") from None


def pieces_of(model: Any) -> list[Piece]:
    """The pieces of a graph, in the order of execution.

    Args:
        model: `onnx.ModelProto`, of which layers with weights in 4-bit blocks are written as plain.

    Raises:
        CostError: its shapes are not static.
    """
    import onnx

    blocks = _unpacked(model.graph)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return _Cutter(graph, blocks).pieces()


def stored_bytes(path: Path) -> int | None:
    """Bytes of a file and of the weights that it keeps beside itself; None if these are missing.

    Raises:
        CostError: it cannot be read.
    """
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    tensors = [t for t in _read(path).graph.initializer if uses_external_data(t)]
    beside = {path.parent / ExternalDataInfo(tensor).location for tensor in tensors}
    if not all(file.is_file() for file in beside):
        return None
    return sum(file.stat().st_size for file in (path, *beside))


def _read(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CostError(f"{path}: not an ONNX file that can be read: {reason}") from error
    if not model.graph.node:
        raise CostError(f"{path}: not an ONNX file: it has no nodes")
    return model


class _Blocks(NamedTuple):
    """Weights in 4-bit blocks: whether they are multiplied as int8, and the constants they are."""

    as_int8: bool
    stored: set[str]


def _unpacked(graph: Any) -> dict[str, _Blocks]:
    """Write layers of 4-bit blocks as plain ones, of which shape inference knows.

    Returns:
        Name of the weights -> what is known of them.
    """
    from onnx import TensorProto, helper

    blocks: dict[str, _Blocks] = {}
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            sizes = {a.name: a.i for a in node.attribute}
            source, result, weight = node.input[0], node.output[0], f"{node.output[0]}/weight"
            shape = [sizes["K"], sizes["N"]]
            graph.input.append(helper.make_tensor_value_info(weight, TensorProto.FLOAT, shape))
            stored = {name for name in node.input[1:] if name}
            blocks[weight] = _Blocks(sizes.get("accuracy_level", 0) == 4, stored)
            node.CopyFrom(helper.make_node("MatMul", [source, weight], [result]))
    return blocks


class _Cutter:
    """Cuts a graph, by the nodes from which each value is made.

    Args:
        graph: with the shapes that were inferred.
        blocks: of `_unpacked`.
    """

    def __init__(self, graph: Any, blocks: dict[str, _Blocks]) -> None:
        self.shapes, self.blocks = _shapes(graph), blocks
        self.constants = {t.name for t in graph.initializer} | set(blocks)
        self.input = next(x.name for x in graph.input if x.name not in self.constants)
        self.stored = {name: {name} for name in self.constants}  # constant -> what it is made of
        self.stored |= {name: weights.stored for name, weights in blocks.items()}
        self.nodes: list[Any] = []
        for node in graph.node:  # weights that are expanded at load are still constants
            if all(name in self.constants for name in node.input if name):
                made_of = set[str]().union(*(self.stored[name] for name in node.input if name))
                self.stored |= dict.fromkeys(node.output, made_of)
                self.constants.update(node.output)
            else:
                self.nodes.append(node)
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self.sources: list[int] = []  # of each node, the nodes that it is made from, as bits
        for node in self.nodes:
            bits = 0
            for name in node.input:
                if name in self.maker:
                    bits |= self.sources[self.maker[name]] | 1 << self.maker[name]
            self.sources.append(bits)

    def pieces(self) -> list[Piece]:
        """Pieces of the graph, in order."""
        pieces: list[Piece] = []
        start, enters = 0, self.shapes.get(self.input, [])
        waiting: list[int] = []  # nodes of no piece yet
        for end, node in enumerate(self.nodes):
            if (stream := self._stream(node)) is None:
                continue
            waiting += range(start, end + 1)
            origin = self._origin(stream)
            inside = [i for i in waiting if origin < 0 or self.sources[i] >> origin & 1]
            if not any(self.nodes[i].op_type in _WORK for i in inside):
                start = end + 1
                continue
            before = sorted(set(waiting) - set(inside))
            leaves = self.shapes.get(stream, [])
            if before:
                pieces.append(self._piece(before, False, enters, leaves))
            enters = self.shapes.get(node.output[0], [])
            pieces.append(self._piece(inside, True, leaves, enters))
            start, waiting = end + 1, []
        waiting += range(start, len(self.nodes))
        if waiting:
            pieces.append(self._piece(waiting, False, enters, []))
        return pieces

    def _stream(self, node: Any) -> str | None:
        """The input of an Add that the other one is made from."""
        if node.op_type != "Add" or any(name in self.constants for name in node.input):
            return None
        for stream, branch in (tuple(node.input), tuple(node.input)[::-1]):
            origin, result = self._origin(stream), self.maker.get(branch, -1)
            if result >= 0 and (origin < 0 or self.sources[result] >> origin & 1):
                return str(stream)
        return None

    def _origin(self, name: str) -> int:
        """The node that computed a value, which may only have been moved since; -1 for none."""
        at = self.maker.get(name, -1)
        while at >= 0 and self.nodes[at].op_type in _MOVES:
            at = self.maker.get(self.nodes[at].input[0], -1)
        return at

    def _piece(
        self, at: Sequence[int], is_branch: bool, enters: list[int], leaves: list[int]
    ) -> Piece:
        piece = Piece(is_branch, enters, leaves)
        for i in at:
            self._count(piece, self.nodes[i])
        if is_branch and len(at) > 1:
            piece.last = self.nodes[at[-2]].op_type
        return piece

    def _count(self, piece: Piece, node: Any) -> None:
        piece.kinds.add(node.op_type)
        piece.values += [name for name in node.output if name]
        piece.constants.update(*(self.stored.get(name, set()) for name in node.input))
        piece.rank = max(piece.rank, len(self.shapes.get(node.output[0], [])))
        if node.op_type in _PRODUCTS:
            left, right = self._known(node, node.input[:2])
            flipped = any(a.name == "transB" and a.i for a in node.attribute)
            inner, columns = (right[-1], right[-2]) if flipped else (right[-2], right[-1])
            if node.input[1] in self.constants:
                piece.linears.append(Linear(prod(left[:-1]), left[-2], inner, columns))
                weights = self.blocks.get(node.input[1])
                piece.blocks += [] if weights is None else [weights.as_int8]
            else:
                piece.products.append(Product(prod(left[:-2]), left[-2], inner, columns))
        elif node.op_type in _CONVOLUTIONS:
            weight, out = self._known(node, (node.input[1], node.output[0]))
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            piece.convolutions.append(
                Convolution(prod(out[2:]), weight[1] * groups, out[1], weight[2], groups)
            )
        elif node.op_type == "Add":
            piece.added += [self.shapes.get(x, []) for x in node.input if x in self.constants]

    def _known(self, node: Any, names: Iterable[str]) -> list[list[int]]:
        shapes = [self.shapes.get(name, []) for name in names]
        if not all(shapes):
            raise CostError(f"the shapes of {node.name or node.op_type!r} are not static")
        return shapes


def _shapes(graph: Any) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = [d.dim_value for d in dims]
    return shapes
