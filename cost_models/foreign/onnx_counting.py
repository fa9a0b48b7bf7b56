"""Counting: what the nodes of a piece of an ONNX graph compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from ...spaces.errors import CostError
from .onnx_kinds import ACTIVATIONS, LIGHT, MOVES, WORK, kind_of
from .onnx_plain import PlainGraph

_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger")
_CONVOLUTIONS = ("Conv", "ConvInteger", "ConvTranspose")
_SELECTS = (*MOVES, "Slice", "Gather", "Split", "Concat", "Pad", "Shape", "DynamicQuantizeLinear")


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
    """A convolution of so many output positions of all images, by a kernel of some shape."""

    positions: int
    inputs: int
    outputs: int
    kernel: tuple[int, ...]
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
        """Multiply-accumulates of all images."""
        linear = sum(x.rows * x.inputs * x.outputs for x in self.linears)
        product = sum(prod(x) for x in self.products)
        return (
            linear
            + product
            + sum(c.positions * c.inputs * c.outputs * prod(c.kernel) // c.groups
                  for c in self.convolutions)
        )  # fmt: skip


class Counting:
    """Counts what nodes compute.

    Args:
        graph: whose nodes are all standard or not known.

    Attributes:
        maker: value -> index of the node that makes it.
    """

    def __init__(self, graph: PlainGraph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.shapes, self.constants = graph.shapes, graph.constants
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}

    def piece(
        self, at: Sequence[int], is_branch: bool, enters: list[int], leaves: list[int]
    ) -> Piece:
        """Count the nodes of a piece.

        Args:
            at: their indices, in order.
            is_branch: whether the last is the Add that returns them to their stream.
            enters: shape of what it is made from.
            leaves: shape of what it makes.
        """
        piece = Piece(is_branch, enters, leaves)
        for i in at:
            self._count(piece, self.nodes[i])
        if is_branch and len(at) > 1:
            piece.last = self.nodes[at[-2]].op_type
        return piece

    def is_layer(self, node: Any) -> bool:
        """Whether it is a convolution or a product with constant weights."""
        kind = node.op_type
        return kind in _CONVOLUTIONS or (kind in _PRODUCTS and node.input[1] in self.constants)

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
        elif kind == "Sub" and self._makes(node.input[1], "ReduceMean"):
            piece.kinds.add("LayerNormalization")  # written in operators, as before operator set 17
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
        left, right, out = self._known(node, (*node.input[:2], node.output[0]))
        turned = any(a.name == "transA" and a.i for a in node.attribute)
        inner = left[-2] if turned else left[-1]
        out = out if len(right) > 1 else [*out, 1]  # a vector is a column
        out = out if len(left) > 1 else [*out[:-1], 1, out[-1]]  # or a row
        # What it makes tells the batch, to which either factor may be repeated.
        if node.input[1] in self.constants:
            piece.linears.append(Linear(prod(out[:-1]), out[-2], inner, out[-1]))
        else:
            piece.products.append(Product(prod(out[:-2]), out[-2], inner, out[-1]))

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
        inner, batch = (
            prod(max(left[a], right[a]) for a in axes) for axes in (both - kept, both & kept)
        )
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
            shape = x[0] * prod(x[2:]), x[1], weight[1] * groups
        else:
            shape = out[0] * prod(out[2:]), weight[1] * groups, out[1]
        piece.convolutions.append(Convolution(*shape, tuple(weight[2:]), groups))

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

    def _makes(self, name: str, kind: str) -> bool:
        """Whether a value is what a node of some kind makes."""
        at = self.maker.get(name)
        return at is not None and self.nodes[at].op_type == kind

    def _is_signed(self, node: Any) -> bool:
        """Whether it stands for one operator that reads signed integers."""
        if not self._makes(node.input[0], "DequantizeLinear"):
            return False
        codes = self.nodes[self.maker[node.input[0]]].input[0]
        return node.name in self.graph.rewritten and self.graph.is_of(codes, "INT8")

    def _is_coded(self, name: str) -> bool:
        """Whether a value is read as integers, beside those that a convolution has left."""
        at, coded = self.maker.get(name), False
        while at is not None and self.nodes[at].op_type in _SELECTS:
            coded |= self.nodes[at].op_type == "QuantizeLinear"
            at = self.maker.get(self.nodes[at].input[0])
        return coded and (at is None or self.nodes[at].op_type not in _CONVOLUTIONS)

    def _known(self, node: Any, names: Iterable[str]) -> list[list[int]]:
        names = list(names)
        if not all(name in self.shapes for name in names):
            raise CostError(f"the shapes of {node.name or node.op_type!r} are not static")
        return [self.shapes[name] for name in names]


def _axes(letters: str, rank: int) -> list[str]:
    """Names of the axes of a factor of Einsum, of which a star stands for those left out.

    >>> _axes("*ij", 4)
    ['*1', '*0', 'i', 'j']
    """
    head, star, tail = letters.partition("*")
    left_out = rank - len(head) - len(tail) if star else 0
    return [*head, *(f"*{i}" for i in reversed(range(left_out))), *tail]
