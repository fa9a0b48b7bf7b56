"""Reading: what a file of ncnn holds, without ncnn."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...spaces.errors import CostError
from .graph import ABOUT, BIN, FLOAT, HALF, INT8, LEVELS, MAGIC, PARAM

KINDS = {FLOAT: "float32", HALF: "float16", INT8: "int8"}  # flag -> how weights are stored
TABLE = "int8 table"  # of any other flag: places in a table
BYTES = {"float32": 4, "float16": 2, "int8": 1, TABLE: 1}
LINEAR = ("Gemm", "Convolution")

Numbers = Mapping[int, float]


@dataclass(frozen=True)
class StoredLayer:
    """A layer of a file.

    Attributes:
        kind: its type.
        name: its own.
        numbers: its parameters by key, without lists.
        weights: how its weights are stored; empty where it has none of several ways.
    """

    kind: str
    name: str
    numbers: Numbers
    weights: str


@dataclass(frozen=True)
class NcnnFile:
    """A file of ncnn.

    Attributes:
        layers: in order.
        about: what it says of itself, by name.
    """

    layers: Sequence[StoredLayer]
    about: Mapping[str, Any]


def _gemm(n: Numbers) -> tuple[list[int], list[int]]:
    rows = int(n.get(7, 0) or n.get(8, 0))
    return [rows * int(n[9]), *([rows] if n.get(6) else [])], [rows] if n.get(18) else []


def _conv(n: Numbers) -> tuple[list[int], list[int]]:
    return [int(n[6])], [int(n[0])] if n.get(5) else []


def _data(n: Numbers) -> tuple[list[int], list[int]]:
    length = 1
    for key in (0, 1, 2, 11):
        length *= int(n.get(key, 1))
    return [], [length]


def _norm(n: Numbers) -> tuple[list[int], list[int]]:
    return [], [2 * int(n[0])]


# Kind of layer -> numbers of its weights that may be stored in several ways, and of floats.
WEIGHTS: dict[str, Callable[[Numbers], tuple[list[int], list[int]]]] = {
    "Convolution": _conv,
    "ConvolutionDepthWise": _conv,
    "Gemm": _gemm,
    "InstanceNorm": _norm,
    "LayerNorm": _norm,
    "MemoryData": _data,
}


def read_file(content: bytes) -> NcnnFile:
    """What a file holds.

    Raises:
        CostError: it is no file of ncnn, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            text, weights, about = (archive.read(name) for name in (PARAM, BIN, ABOUT))
        first, _, *lines = text.decode().splitlines()
        told = json.loads(about)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise CostError(f"not an archive with {PARAM}, {BIN} and {ABOUT}") from error
    if first != MAGIC or not isinstance(told, dict):
        raise CostError("not a file of ncnn")
    try:
        return NcnnFile(_layers(lines, weights), told)
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise CostError(f"{BIN} is not what {PARAM} says") from error


def _layers(lines: Sequence[str], weights: bytes) -> list[StoredLayer]:
    layers, at = list[StoredLayer](), 0
    for line in lines:
        kind, name, inputs, outputs, *rest = line.split()
        pairs = (pair.split("=") for pair in rest[int(inputs) + int(outputs) :])
        numbers = {int(k): float(v) for k, v in pairs if int(k) >= 0}
        flagged, floats = WEIGHTS[kind](numbers) if kind in WEIGHTS else ([], [])
        stored = ""
        for count in flagged:
            flag = struct.unpack_from("<I", weights, at)[0]
            how = KINDS.get(flag, TABLE)
            size = count * BYTES[how]
            at += 4 + size + -size % 4 + (4 * LEVELS if how == TABLE else 0)
            stored = stored or how
        at += 4 * sum(floats)
        layers.append(StoredLayer(kind, name, numbers, stored))
    if at != len(weights):
        raise ValueError("weights are missing, or there are more")
    return layers
