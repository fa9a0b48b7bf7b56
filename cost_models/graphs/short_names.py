"""Short names: names of one length for the values of a graph.

Exporters name every value after the code that made it, and number some of them through the whole
network. That is up to a tenth of a file with 4-bit weights, and it makes the same sub-block larger
in one network than in another. Here weights keep the names of their modules, everything else is
numbered in four digits; so the size of a network is the sum of its sub-blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx


def shorten(graph: onnx.GraphProto, weights: Collection[str]) -> None:
    """Number every value that is no weight, in place; drop the names of nodes, which nothing needs.

    Args:
        graph: inputs and outputs keep their names.
        weights: names that stay.
    """
    kept = {*weights, "", *(value.name for value in (*graph.input, *graph.output))}
    made = [name for node in graph.node for name in (*node.input, *node.output)]
    names = dict.fromkeys(name for name in made if name not in kept)
    rename(graph, {name: f"{index:04x}" for index, name in enumerate(names)})
    for node in graph.node:
        node.ClearField("name")


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values and constants other names, in place."""
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = names.get(name, name)


def body_bytes(graph: onnx.GraphProto) -> int:
    """Bytes that nodes and constants take in a file."""
    return sum(_field_bytes(part.ByteSize()) for part in (*graph.node, *graph.initializer))


def _field_bytes(size: int) -> int:
    """Bytes of a message inside another: its tag, its length in groups of seven bits, itself."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size
