"""Pieces: an ONNX graph cut at the Adds where a residual stream meets its branch.

An Add closes a branch if one of its inputs is made from the other one and something was computed
in between. What lies between two branches, before the first and after the last are pieces too:
stem, downsampling, dropping of tokens, head.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...spaces.errors import CostError
from .onnx_counting import Counting, Piece
from .onnx_kinds import MOVES, WORK
from .onnx_plain import PlainGraph

_WORK = {*WORK, "AveragePool"}


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
        self.graph, self.counting = graph, Counting(graph)
        self.shapes, self.nodes, self.maker = graph.shapes, graph.nodes, self.counting.maker
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
            pieces.append(self.counting.piece(inside, True, leaves, enters))
            start, waiting = end + 1, []
        waiting += range(start, len(self.nodes))
        if waiting:
            pieces.append(self.counting.piece(waiting, False, enters, []))
        return pieces

    def _ahead(
        self, at: Sequence[int], stream: str, enters: list[int], leaves: list[int]
    ) -> list[Piece]:
        """What lies before a branch: layers apart from what chooses among the rows they made."""
        whole = self._chosen_from(stream)
        origin = self._origin(whole) if whole else -1
        chooses = [i for i in at if origin >= 0 and self.sources[i] >> origin & 1]
        first = [i for i in at if i not in chooses]
        if not chooses or not any(self.counting.is_layer(self.nodes[i]) for i in first):
            return [self.counting.piece(at, False, enters, leaves)]
        rows = self.shapes.get(whole, [])
        return [
            self.counting.piece(first, False, enters, rows),
            self.counting.piece(chooses, False, rows, leaves),
        ]

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
            if maker is None or maker.op_type not in MOVES:
                break
            whole = maker.input[0]
        return whole

    def _stream(self, node: Any) -> str | None:
        """The input of an Add that the other one is made from."""
        if node.op_type != "Add" or any(name in self.graph.constants for name in node.input):
            return None
        for stream, branch in (tuple(node.input), tuple(node.input)[::-1]):
            origin, result = self._origin(stream), self.maker.get(branch, -1)
            if result >= 0 and (origin < 0 or self.sources[result] >> origin & 1):
                return str(stream)
        return None

    def _origin(self, name: str) -> int:
        """The node that computed a value, which may only have been moved since; -1 for none."""
        at = self.maker.get(name, -1)
        while at >= 0 and self.nodes[at].op_type in MOVES:
            at = self.maker.get(self.nodes[at].input[0], -1)
        return at
