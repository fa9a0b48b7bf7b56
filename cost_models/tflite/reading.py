"""Reading: what a TFLite file holds, without running it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ...spaces.errors import CostError
from ..standalone.litert_graph import MULTIPLIES

IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor: its name, and the type of its elements as NumPy says it, or "int4"."""

    name: str
    kind: str


@dataclass(frozen=True)
class StoredOperator:
    """An operator: its kind, and its tensors by index."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TfliteFile:
    """Contents of a file.

    Attributes:
        tensors: by index.
        operators: in order.
        about: texts of the metadata by name.
        external: whether it keeps constants in other files.
    """

    tensors: Sequence[StoredTensor]
    operators: Sequence[StoredOperator]
    about: Mapping[str, str]
    external: bool


def read_file(content: bytes) -> TfliteFile:
    """What a file holds.

    Raises:
        CostError: it is no TFLite file, or damaged.
    """
    if content[4:8] != IDENTIFIER:
        raise CostError("not a TFLite file")
    schema: Any = import_module("ai_edge_litert.schema_py_generated")
    try:
        return _read(schema, schema.ModelT.InitFromPackedBuf(content))
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        raise CostError("the TFLite file cannot be read") from error


def operators_of(file: TfliteFile) -> dict[str, int]:
    """Operators that a run executes, with what they multiply, as LiteRT's own counts call them.

    Constants that are made floats are so when a file is loaded.
    """
    made = {tensor for operator in file.operators for tensor in operator.outputs}
    counts: Counter[str] = Counter()
    for operator in file.operators:
        if operator.kind == "DEQUANTIZE" and operator.inputs[0] not in made:
            continue
        tensor = file.tensors[operator.inputs[1 if operator.kind in MULTIPLIES else 0]]
        counts[f"{operator.kind}:{tensor.kind}"] += 1
    return dict(counts)


def _read(schema: Any, model: Any) -> TfliteFile:
    kinds = {n: name for name, n in vars(schema.BuiltinOperator).items() if name.isupper()}
    types = {n: name.lower() for name, n in vars(schema.TensorType).items() if name.isupper()}
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    (graph,) = model.subgraphs
    notes = {note.name.decode(): model.buffers[note.buffer].data for note in model.metadata or []}
    return TfliteFile(
        [StoredTensor((t.name or b"").decode(), types[t.type]) for t in graph.tensors],
        [
            StoredOperator(kinds[codes[o.opcodeIndex]], tuple(o.inputs), tuple(o.outputs))
            for o in graph.operators
        ],
        {name: data.tobytes().decode() for name, data in notes.items()},
        bool(model.externalBuffers or model.externalBufferGroups),
    )
