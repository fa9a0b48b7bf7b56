"""Pieces: an ONNX graph cut at the Adds where a residual stream meets its branch.

An Add closes a branch if one of its inputs is made from the other one and something was computed
in between. What lies between two branches, before the first and after the last are pieces too:
stem, downsampling, dropping of tokens, head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from ...spaces.errors import CostError
from .onnx_kinds import ACTIVATIONS, LIGHT, WORK, kind_of
from .onnx_plain import PlainGraph

_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger")
_CONVOLUTIONS = ("Conv", "ConvInteger", "ConvTranspose")
_CODES = ("QuantizeLinear", "DequantizeLinear")
_MOVES = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", *_CODES)
_SELECTS = (*_MOVES, "Slice", "Gather", "Split", "Concat", "Pad", "Shape", "DynamicQuantizeLinear")
_WORK = {*WORK, "AveragePool"}


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
        acts: elements that pass through each activation function, those of gates like them too.
        linears: in their order.
        products: in their order.
        convolutions: in their order.
        added: shapes of constants that are added.
        scattered: shape of what rows are put back into, all images together.
        rank: the most dimensions of anything in it.
        last: kind of the node before the Add.
        recipes: of each layer with constant weights in its order, the one whose kernel it has; ""
            for none that is known.
        coded: kinds of its other nodes that read integers, which they do in no recipe.
        is_signed: whether an operator for integers reads signed activations, which ONNX Runtime
            does not turn into the unsigned ones that x86 multiplies fast, as it does with pairs.
        is_half: whether a product is of floats of 16 bits.
        strange: kind of each node whose cost is not known, and a guess of its multiply-accumulates.
        values: names of what its nodes make, in their order.
        constants: stored constants that it reads, directly or as what is computed of them alone.
    """

    is_branch: bool
    enters: list[int]
    leaves: list[int]
    kinds: set[str] = field(default_factory=set)
    acts: Counter[str] = field(default_factory=Counter[str])
    linears: list[Linear] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    convolutions: list[Convolution] = field(default_factory=list)
    added: list[list[int]] = field(default_factory=list)
    scattered: list[int] = field(default_factory=list)
    rank: int = 0
    last: str = ""
    recipes: list[str] = field(default_factory=list)
    coded: set[str] = field(default_factory=set)
    is_signed: bool = False
    is_half: bool = False
    strange: list[tuple[str, int]] = field(default_factory=list)
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
        model: `onnx.ModelProto`.

    Raises:
        CostError: its shapes are not static, or an operator is not known.
    """
    return _Cutter(PlainGraph(model)).pieces()


def choosing(pieces: Sequence[Piece]) -> dict[int, int]:
    """Pieces that choose rows for the branch after them, which the next piece puts back.

    Returns:
        Index of each -> number of rows among which it chooses, those of all images together.
    """
    return {
        index: back.scattered[0]
        for index, (piece, branch, back) in enumerate(
            zip(pieces, pieces[1:], pieces[2:], strict=False)
        )
        if not piece.is_branch
        and branch.is_branch
        and back.scattered
        and [layer.outputs for layer in piece.linears] in ([], [1])
        and not piece.convolutions
        and not piece.strange
    }


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


class _Cutter:
    """Cuts a graph, by the nodes from which each value is made.

    Args:
        graph: whose nodes are all standard or not known.
    """

    def __init__(self, graph: PlainGraph) -> None:
        self.graph = graph
        self.shapes, self.constants, self.nodes = graph.shapes, graph.constants, graph.nodes
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.sources: list[int] = []  # of each node, the nodes that it is made from, as bits
        for node in self.nodes:
            bits = 0
            for name in node.input:
                if name in self.maker:
                    bits |= self.sources[self.maker[name]] | 1 << self.maker[name]
            self.sources.append(bits)
        # Nodes that made what rows are put back into.
        scatters = (node for node in self.nodes if node.op_type == "ScatterND")
        self.filled = {self._origin(node.input[0]) for node in scatters}

    def pieces(self) -> list[Piece]:
        """Pieces of the graph, in order."""
        pieces: list[Piece] = []
        start, enters = 0, self.shapes.get(self.graph.input, [])
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
                pieces += self._ahead(before, stream, enters, leaves)
            enters = self.shapes.get(node.output[0], [])
            pieces.append(self._piece(inside, True, leaves, enters))
            start, waiting = end + 1, []
        waiting += range(start, len(self.nodes))
        if waiting:
            pieces.append(self._piece(waiting, False, enters, []))
        return pieces

    def _ahead(
        self, at: Sequence[int], stream: str, enters: list[int], leaves: list[int]
    ) -> list[Piece]:
        """What lies before a branch: layers apart from what chooses among the rows they made."""
        whole = self._chosen_from(stream)
        origin = self._origin(whole) if whole else -1
        chooses = [i for i in at if origin >= 0 and self.sources[i] >> origin & 1]
        first = [i for i in at if i not in chooses]
        if not chooses or not any(self._is_layer(self.nodes[i]) for i in first):
            return [self._piece(at, False, enters, leaves)]
        rows = self.shapes.get(whole, [])
        return [self._piece(first, False, enters, rows), self._piece(chooses, False, rows, leaves)]

    def _chosen_from(self, stream: str) -> str:
        """The value of which a stream has rows that are put back later; "" if there is none."""
        at = self._origin(stream)
        if at < 0 or self.nodes[at].op_type != "Gather":
            return ""
        whole = self.nodes[at].input[0]
        if self._origin(whole) not in self.filled:
            return ""
        while len(self.shapes.get(whole, [])) == 2:  # rows of all images
            maker = self.nodes[self.maker[whole]] if whole in self.maker else None
            if maker is None or maker.op_type not in _MOVES:
                break
            whole = maker.input[0]
        return whole

    def _is_layer(self, node: Any) -> bool:
        """Whether it is a convolution or a product with constant weights."""
        kind = node.op_type
        return kind in _CONVOLUTIONS or (kind in _PRODUCTS and node.input[1] in self.constants)

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
        kind = kind_of(node)
        piece.kinds.add(kind)
        if kind in ACTIVATIONS:
            piece.acts[ACTIVATIONS[kind]] += prod(self.shapes.get(node.output[0], []))
        piece.values += [name for name in node.output if name]
        piece.constants.update(*(self.constants.get(name, set()) for name in node.input))
        piece.rank = max(piece.rank, len(self.shapes.get(node.output[0], [])))
        layer = len(node.input) > 1 and node.input[1] in self.constants
        if kind in _PRODUCTS:
            self._count_product(piece, node)
        elif kind in _CONVOLUTIONS:
            self._count_convolution(piece, node)
        elif kind == "Einsum" and len(node.input) == 2:
            self._count_einsum(piece, node)
        elif kind == "Attention":
            piece.kinds.add("Softmax")
            self._count_attention(piece, node)
            layer = False
        elif kind == "ScatterND":
            piece.scattered = self.shapes.get(node.output[0], [])
        elif kind == "Add":
            piece.added += [self.shapes.get(x, []) for x in node.input if x in self.constants]
        elif kind not in LIGHT:
            piece.strange.append((kind, self._guess(node)))
            layer = False
        if kind in WORK:
            piece.is_half |= self.graph.is_of(node.input[0], "FLOAT16", "BFLOAT16")
        if kind in WORK and layer:
            piece.recipes.append(self._recipe(node))
            piece.is_signed |= self._is_signed(node)
        elif kind not in _SELECTS and any(self._is_coded(name) for name in node.input):
            piece.coded.add(kind)

    def _count_product(self, piece: Piece, node: Any) -> None:
        left, right = self._known(node, node.input[:2])
        turned = {a.name for a in node.attribute if a.name in ("transA", "transB") and a.i}
        left = [*left[:-2], left[-1], left[-2]] if "transA" in turned else left
        inner, columns = (right[-1], right[-2]) if "transB" in turned else (right[-2], right[-1])
        if node.input[1] in self.constants:
            piece.linears.append(Linear(prod(left[:-1]), left[-2], inner, columns))
        else:
            piece.products.append(Product(prod(left[:-2]), left[-2], inner, columns))

    def _count_einsum(self, piece: Piece, node: Any) -> None:
        """A product over the axes that both factors have and the result has not."""
        equation = next(a.s.decode() for a in node.attribute if a.name == "equation")
        factors, _, result = equation.replace(" ", "").replace("...", "*").partition("->")
        shapes = self._known(node, node.input)
        left, right = (
            dict(zip(_axes(axes, len(shape)), shape, strict=True))
            for axes, shape in zip(factors.split(","), shapes, strict=True)
        )
        made = self._known(node, node.output)[0] if result else []
        kept = set(_axes(result, len(made))) if result else {*left} ^ {*right}
        both = left.keys() & right.keys()
        inner, batch = (prod(left[a] for a in axes) for axes in (both - kept, both & kept))
        rows = [size for axis, size in left.items() if axis not in both]
        columns = prod(size for axis, size in right.items() if axis not in both)
        if node.input[1] in self.constants:
            length = rows[-1] if rows else 1
            piece.linears.append(Linear(batch * prod(rows), length, inner, columns))
        else:
            piece.products.append(Product(batch, prod(rows), inner, columns))

    def _count_convolution(self, piece: Piece, node: Any) -> None:
        x, weight, out = self._known(node, (*node.input[:2], node.output[0]))
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        if node.op_type == "ConvTranspose":  # each input position is spread out
            shape = prod(x[2:]), x[1], weight[1] * groups
        else:
            shape = prod(out[2:]), weight[1] * groups, out[1]
        piece.convolutions.append(Convolution(*shape, weight[2], groups))

    def _count_attention(self, piece: Piece, node: Any) -> None:
        """Products of queries with keys and of their weights with values, as (B, heads, N, C)."""
        heads = {a.name: a.i for a in node.attribute if a.name in ("q_num_heads", "kv_num_heads")}
        shapes = self._known(node, node.input[:3])
        names = ("q_num_heads", "kv_num_heads", "kv_num_heads")
        q, k, v = (
            shape if len(shape) == 4 else [shape[0], heads[name], shape[1], shape[2] // heads[name]]
            for shape, name in zip(shapes, names, strict=True)
        )
        batch = q[0] * q[1]
        piece.products.append(Product(batch, q[2], q[3], k[2]))
        piece.products.append(Product(batch, q[2], k[2], v[3]))
        if len(node.input) > 3 and node.input[3] in self.constants:
            piece.added.append(self.shapes.get(node.input[3], []))

    def _guess(self, node: Any) -> int:
        """Multiply-accumulates of a node that is not known.

        As of a dense layer at every position that it makes, if it has weights; otherwise one for
        every element that it reads or makes.
        """
        out = [self.shapes.get(name, []) for name in node.output]
        weights = sum(prod(self.shapes.get(name, [])) for name in node.input
                      if name in self.constants)  # fmt: skip
        if weights > 1:
            return weights * max(prod(shape[:-1]) for shape in out)
        return sum(map(prod, [*out, *(self.shapes.get(name, []) for name in node.input)]))

    def _recipe(self, node: Any) -> str:
        """Recipe whose kernel a layer with constant weights has."""
        weight = node.input[1]
        if weight in self.graph.kernels:
            return self.graph.kernels[weight]
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            return "dynamic8"
        coded, stored = self._is_coded(node.input[0]), self.graph.makers.get(weight)
        if stored == "DequantizeLinear":
            return "static8" if coded else ""
        return "" if coded else "float"

    def _is_signed(self, node: Any) -> bool:
        """Whether it stands for one operator that reads signed integers."""
        at = self.maker.get(node.input[0])
        if at is None or self.nodes[at].op_type != "DequantizeLinear":
            return False
        codes = self.nodes[at].input[0]
        return node.name in self.graph.rewritten and self.graph.is_of(codes, "INT8")

    def _is_coded(self, name: str) -> bool:
        """Whether a value is read as integers, beside those that a convolution has left."""
        at, coded = self.maker.get(name), False
        while at is not None and self.nodes[at].op_type in _SELECTS:
            coded |= self.nodes[at].op_type == "QuantizeLinear"
            at = self.maker.get(self.nodes[at].input[0])
        return coded and (at is None or self.nodes[at].op_type not in _CONVOLUTIONS)

    def _known(self, node: Any, names: Iterable[str]) -> list[list[int]]:
        shapes = [self.shapes.get(name, []) for name in names]
        if not all(shapes):
            raise CostError(f"the shapes of {node.name or node.op_type!r} are not static")
        return shapes


def _axes(letters: str, rank: int) -> list[str]:
    """Names of the axes of a factor of Einsum, of which a star stands for those left out.

    >>> _axes("*ij", 4)
    ['*1', '*0', 'i', 'j']
    """
    head, star, tail = letters.partition("*")
    left_out = rank - len(head) - len(tail) if star else 0
    return [*head, *(f"*{i}" for i in reversed(range(left_out))), *tail]
