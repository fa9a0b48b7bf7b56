"""Graph: the layers of an ncnn network, and the file that holds them.

ncnn keeps a network in two files: a text with a layer a line, and the weights one after the other
(docs/developer-guide/param-and-model-file-structure.md of ncnn). Here both are in one archive,
uncompressed, with what is known of the model as JSON.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = "7767517"  # first line of a text
PARAM, BIN, ABOUT = "model.ncnn.param", "model.ncnn.bin", "about.json"  # files of an archive
GIVEN, ANSWER = "in0", "out0"  # names of the input and the output
FLOAT, HALF, INT8, TABLE = 0, 0x01306B47, 0x000D4B38, 1  # flags before stored weights
LEVELS = 256  # of weights that are stored as places in a table of floats
READABLE = 0o644  # mode of what is unpacked
ARRAYS = -23300  # key of an array, less the key

Param = int | float | Sequence[int]


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        kind: its type.
        name: its own.
        inputs: names of what it reads.
        outputs: names of what it makes.
        params: its numbers by key.
        weights: its stored weights.
    """

    kind: str
    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    params: Mapping[int, Param] = field(default_factory=dict[int, Param])
    weights: bytes = b""

    def line(self) -> str:
        """Line of a text."""
        ends = [str(len(self.inputs)), str(len(self.outputs)), *self.inputs, *self.outputs]
        return " ".join(
            [self.kind, self.name, *ends, *(_pair(k, v) for k, v in self.params.items())]
        )


class NcnnGraph:
    """Layers so far."""

    def __init__(self) -> None:
        self._layers: list[Layer] = []
        self._names: set[str] = set()
        self._count = 0

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        params: Mapping[int, Param] | None = None,
        weights: bytes = b"",
        outputs: int = 1,
        name: str = "",
    ) -> list[str]:
        """Add a layer; names of what it makes.

        Args:
            kind: type of the layer.
            inputs: names of what it reads.
            params: its numbers by key.
            weights: as they stand in the file.
            outputs: how many values it makes.
            name: that it gets if no other has it.
        """
        made = [str(self._count + index) for index in range(outputs)]
        self._count += outputs
        own = name if name and name not in self._names else f"{kind.lower()}_{made[0]}"
        self._names.add(own)
        self._layers.append(Layer(kind, own, inputs, made, params or {}, weights))
        return made

    def encode(self, given: str, answer: str, about: Mapping[str, Any]) -> bytes:
        """The file.

        Args:
            given: value that the first layer makes, which is the input.
            answer: value that is the output.
            about: what is to be told of the model, by name.
        """
        layers = _renamed(_shared(self._layers, answer), {given: GIVEN})
        blobs = sum(len(layer.outputs) for layer in layers)
        lines = [MAGIC, f"{len(layers)} {blobs}", *(layer.line() for layer in layers)]
        text = "\n".join(lines) + "\n"
        weights = b"".join(layer.weights for layer in layers)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, content in ((PARAM, text), (BIN, weights), (ABOUT, json.dumps(about))):
                entry = zipfile.ZipInfo(name)  # of one date, so that equal files are equal
                entry.external_attr = READABLE << 16
                archive.writestr(entry, content)
        return stream.getvalue()


def floats(values: NDArray[Any]) -> bytes:
    """Weights that a layer wants as float32."""
    return np.ascontiguousarray(values, np.float32).tobytes()


def tagged(values: NDArray[Any], integers: bool = False) -> bytes:
    """Weights of a layer that may store them in several ways.

    Args:
        values: float32, float16 or int8.
        integers: whether the layer multiplies those of int8; otherwise it loads them as floats,
            through a table.
    """
    values = np.ascontiguousarray(values)
    if values.dtype == np.float16:
        return _flag(HALF) + _aligned(values.tobytes())
    if values.dtype != np.int8:
        return _flag(FLOAT) + floats(values)
    if integers:
        return _flag(INT8) + _aligned(values.tobytes())
    table = np.arange(LEVELS, dtype=np.float32) - LEVELS // 2
    places = (values.astype(np.int16) + LEVELS // 2).astype(np.uint8)
    return _flag(TABLE) + floats(table) + _aligned(places.tobytes())


def _flag(value: int) -> bytes:
    return struct.pack("<I", value)


def _aligned(content: bytes) -> bytes:
    """Filled up to whole words of 32 bits."""
    return content + bytes(-len(content) % 4)


def _pair(key: int, value: Param) -> str:
    if isinstance(value, int):
        return f"{key}={value}"
    if isinstance(value, float):
        return f"{key}={value:.9e}"
    return f"{ARRAYS - key}={','.join(map(str, (len(value), *value)))}"


def _shared(layers: Sequence[Layer], answer: str) -> list[Layer]:
    """Layers with a copy of a value for each that reads it, which ncnn wants; one is the output."""
    readers: dict[str, list[int]] = {}
    for index, layer in enumerate(layers):
        for name in layer.inputs:
            readers.setdefault(name, []).append(index)
    readers.setdefault(answer, []).append(len(layers))
    copies = {
        name: [f"{name}_{copy}" for copy in range(len(of))]
        for name, of in readers.items()
        if len(of) > 1
    }
    result = copies[answer][-1] if answer in copies else answer
    waiting = {name: list(names) for name, names in copies.items()}
    shared: list[Layer] = []
    for layer in layers:
        inputs = [waiting[name].pop(0) if name in waiting else name for name in layer.inputs]
        shared.append(replace(layer, inputs=inputs))
        for name in layer.outputs:
            if name in copies:
                shared.append(Layer("Split", f"split_{name}", [name], copies[name]))
    return _renamed(shared, {result: ANSWER})


def _renamed(layers: Sequence[Layer], names: Mapping[str, str]) -> list[Layer]:
    def new(values: Sequence[str]) -> list[str]:
        return [names.get(name, name) for name in values]

    return [replace(x, inputs=new(x.inputs), outputs=new(x.outputs)) for x in layers]
