"""Estimate: the latency of an arbitrary ViT-like ONNX file from a cost model.

The graph is cut where residual streams meet, at its Adds of two activations. Each piece is
recognised by what stands in it: linear layers, a softmax, convolutions; a piece that looks like
a sub-block the model has measured is predicted as that sub-block, anything else by its
multiply-accumulates alone. How much of the estimate comes from the first is its coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..spaces import Block, Place, Policy
from ..spaces.errors import CostError
from .model import CostModel
from .workload import SubBlock


@dataclass(frozen=True)
class Estimate:
    """The estimate of one file.

    Attributes:
        latency_ms: of one run.
        coverage: share of it that recognised sub-blocks explain, 0 to 1.
        pieces: kind of each piece, key of the sub-block it was taken for ("" for none), and ms.
    """

    latency_ms: float
    coverage: float
    pieces: list[tuple[str, str, float]]


@dataclass
class _Piece:
    """Nodes between two meetings of the residual stream, as counts."""

    linears: list[tuple[int, int, int]]  # rows, inputs, outputs
    products: list[tuple[int, int, int, int]]  # batch, rows, inner, columns
    convolutions: list[tuple[int, int, int, int, int]]  # positions, inputs, outputs, kernel, group
    kinds: set[str]

    @property
    def macs(self) -> int:
        linear = sum(rows * inputs * outputs for rows, inputs, outputs in self.linears)
        product = sum(b * m * k * n for b, m, k, n in self.products)
        conv = sum(p * i * o * k * k // g for p, i, o, k, g in self.convolutions)
        return linear + product + conv


def predict_onnx(model: CostModel, path: str | Path) -> Estimate:
    """Estimate the latency of an ONNX file on the device of a cost model.

    Args:
        model: calibrated on the device.
        path: a file with static shapes; float32, or with int8 weights in the forms of
            `recipes`.

    Raises:
        CostError: the file cannot be read, or its shapes are not static.
    """
    pieces = [piece for piece in _pieces(_load(Path(path))) if piece.macs]
    blocks = [_recognised(piece, i, len(pieces)) for i, piece in enumerate(pieces)]
    times = [model.block_ms(block) if block else 0.0 for block in blocks]
    known_macs = sum(p.macs for p, block in zip(pieces, blocks, strict=True) if block)
    # What is not known is as slow for its size as what is, and no faster than plain layers.
    rate = max(model.ms_per_mmac / 1e6, sum(times) / known_macs if known_macs else 0.0)
    found = [
        (block.kind, block.key, ms) if block else ("other", "", piece.macs * rate)
        for piece, block, ms in zip(pieces, blocks, times, strict=True)
    ]
    total = sum(ms for _, _, ms in found)
    return Estimate(total, sum(times) / total if total else 0.0, found)


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise CostError(f"{path}: not an ONNX file that can be read: {error}") from error
    return onnx.shape_inference.infer_shapes(model).graph


def _shapes(graph: Any) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(d.HasField("dim_value") for d in dims):
            found[value.name] = [d.dim_value for d in dims]
    return found


def _pieces(graph: Any) -> list[_Piece]:
    shapes = _shapes(graph)
    constants = {t.name for t in graph.initializer}
    for node in graph.node:  # weights that are expanded at load are still constants
        if node.input and all(name in constants for name in node.input if name):
            constants.update(node.output)
    pieces = [_Piece([], [], [], set())]
    for node in graph.node:
        piece = pieces[-1]
        piece.kinds.add(node.op_type)
        if node.op_type in ("MatMul", "Gemm", "MatMulInteger"):
            left, right = (shapes.get(name) for name in node.input[:2])
            if left is None or right is None:
                raise CostError(f"the shapes of {node.name or node.op_type!r} are not static")
            _add_product(piece, node, left, right, node.input[1] in constants)
        elif node.op_type == "MatMulNBits":
            sizes = {a.name: a.i for a in node.attribute}
            rows = _count(shapes.get(node.input[0], [1])[:-1])
            piece.linears.append((rows, sizes["K"], sizes["N"]))
        elif node.op_type in ("Conv", "ConvInteger"):
            weight, out = shapes.get(node.input[1]), shapes.get(node.output[0])
            if weight is None or out is None:
                raise CostError(f"the shapes of {node.name or node.op_type!r} are not static")
            group = next((a.i for a in node.attribute if a.name == "group"), 1)
            positions = _count(out[2:])
            piece.convolutions.append((positions, weight[1] * group, out[1], weight[2], group))
        elif node.op_type == "Add" and piece.macs and _meets(node, constants, shapes):
            pieces.append(_Piece([], [], [], set()))
    return pieces


def _meets(node: Any, constants: set[str], shapes: dict[str, list[int]]) -> bool:
    """Whether an Add ends a piece: two streams meet, or positions are added."""
    added = [shapes.get(name, []) for name in node.input if name in constants]
    if not added:
        return len(shapes.get(node.output[0], [])) in (3, 4)
    return len(added[0]) == 3 and _count(added[0][:-1]) > 1


def _add_product(
    piece: _Piece, node: Any, left: list[int], right: list[int], constant: bool
) -> None:
    flipped = any(a.name == "transB" and a.i for a in node.attribute)
    inner, columns = (right[-1], right[-2]) if flipped else (right[-2], right[-1])
    rows = _count(left[:-1])
    if constant:
        piece.linears.append((rows, inner, columns))
    else:
        piece.products.append((_count(left[:-2]), left[-2], inner, columns))


def _count(dims: Sequence[int]) -> int:
    total = 1
    for n in dims:
        total *= n
    return total


def _recognised(piece: _Piece, index: int, pieces: int) -> SubBlock | None:
    """The sub-block that a piece looks like, None if it looks like none."""
    act = next((a for k, a in _ACTS.items() if k in piece.kinds), "gelu")
    norm = "layer" if "LayerNormalization" in piece.kinds else "rms"
    bits = 8 if {"MatMulInteger", "QuantizeLinear"} & piece.kinds else 32
    policy = Policy(bits, bits)
    if index == pieces - 1 and len(piece.linears) == 1 and not piece.products:
        _, width, classes = piece.linears[0]
        place = Place(Block(), width, (1, 1), 0, 1, 1, act=act)
        return SubBlock("head", place, policy, norm, "avg", outputs=classes)
    if index == 0 and len(piece.convolutions) == 1 and not piece.linears:
        positions, inputs, width, kernel, _ = piece.convolutions[0]
        side = round(positions**0.5)
        place = Place(Block(), width, (side, side), 0, positions, positions, act=act)
        return SubBlock("stem", place, policy, norm, "patch", inputs=inputs, patch_size=kernel)
    if piece.convolutions:
        return None
    if len(piece.linears) == 2 and not piece.products:
        (rows, width, hidden), (_, other, back) = piece.linears
        if hidden == other and back == width:
            place = Place(Block(mlp_hidden=hidden), width, (1, 1), 0, rows, rows, act=act)
            return SubBlock("mlp", place, policy, norm, "mlp")
    if len(piece.products) == 2 and "Softmax" in piece.kinds and len(piece.linears) in (2, 4):
        return _attention(piece, policy, norm, act)
    return None


def _attention(piece: _Piece, policy: Policy, norm: str, act: str) -> SubBlock | None:
    """Softmax attention, its queries, keys and values in one layer or in three."""
    rows, width, _ = piece.linears[0]
    heads, queries, head_dim, keys = piece.products[0]
    if queries != rows or keys != rows or piece.linears[-1][2] != width:
        return None
    block = Block(num_heads=heads, head_dim=head_dim)
    place = Place(block, width, (1, 1), 0, rows, rows, act=act)
    return SubBlock("mixer", place, policy, norm, "softmax")


_ACTS = {"Gelu": "gelu", "Erf": "gelu", "HardSwish": "hardswish", "Relu": "relu"}
