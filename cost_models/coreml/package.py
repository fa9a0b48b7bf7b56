"""Package: an .mlpackage as one archive, the same for the same model, and what it holds."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError
from .conversion import MOST, tools

FOLDER = "model.mlpackage"
DATA = "Data/com.apple.CoreML"  # inside of it
MODEL, BLOB = f"{DATA}/model.mlmodel", f"{DATA}/weights/weight.bin"
MANIFEST = "Manifest.json"
LONG_AGO = (1980, 1, 1, 0, 0, 0)
MARK = 0xDEADBEEF  # before each entry of a blob: coremltools' mlmodel/src/MILBlob/Blob
TYPES: Mapping[str, type[np.generic]] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT32": np.int32,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


@dataclass(frozen=True)
class Operation:
    """An operator of an ML program.

    Attributes:
        kind: such as "linear".
        inputs: name of a parameter -> names of values, or a constant.
        output: name of what it makes.
        shape: of that.
    """

    kind: str
    inputs: Mapping[str, tuple[str, ...] | Any]
    output: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """An ML program.

    Attributes:
        given: name of the input.
        input_shape: of it.
        answer: name of the output.
        operations: in order.
        about: metadata of the user by name.
    """

    given: str
    input_shape: tuple[int, ...]
    answer: str
    operations: Sequence[Operation]
    about: Mapping[str, str]


def packed(folder: Path) -> bytes:
    """The archive of an .mlpackage."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    entries = sorted(manifest["itemInfoEntries"].items(), key=lambda item: item[1]["path"])
    names = {old: f"00000000-0000-0000-0000-{n:012d}" for n, (old, _) in enumerate(entries, 1)}
    manifest["itemInfoEntries"] = {names[old]: entry for old, entry in entries}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=4), encoding="utf-8")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = f"{FOLDER}/{path.relative_to(folder).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), path.read_bytes())
    return stream.getvalue()


def read_program(content: bytes) -> Program:
    """What an archive holds.

    Raises:
        CostError: it is no such archive, or a part of it is missing; or its program has what Core
            ML cannot run: several functions, or tensors of unknown lengths or of too many axes.
    """
    tools()
    proto: Any = import_module("coremltools.proto.Model_pb2")
    broken: Any = import_module("google.protobuf.message").DecodeError
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            model = proto.Model.FromString(archive.read(f"{FOLDER}/{MODEL}"))
            names = archive.namelist()
            blob = archive.read(f"{FOLDER}/{BLOB}") if f"{FOLDER}/{BLOB}" in names else b""
            if f"{FOLDER}/{MANIFEST}" not in names:
                raise KeyError(MANIFEST)
        (function,) = model.mlProgram.functions.values()
        (block,) = function.block_specializations.values()
        (given,), (answer,) = function.inputs, block.outputs
        types = import_module("coremltools.proto.MIL_pb2").DataType
        operations = [_operation(operation, blob, types) for operation in block.operations]
    except (zipfile.BadZipFile, KeyError, broken, ValueError, struct.error) as error:
        raise CostError(f"not an archive with a whole {FOLDER}") from error
    about = dict(model.description.metadata.userDefined)
    return Program(given.name, _shape(given.type), answer, operations, about)


def _operation(operation: Any, blob: bytes, types: Any) -> Operation:
    inputs: dict[str, Any] = {
        name: _constant(value, blob, types)
        for name, value in operation.attributes.items()
        if name != "name"
    }
    for name, argument in operation.inputs.items():
        bound = argument.arguments
        if len(bound) == 1 and bound[0].WhichOneof("binding") == "value":
            inputs[name] = _constant(bound[0].value, blob, types)
        else:
            inputs[name] = tuple(each.name for each in bound)
    (output,) = operation.outputs
    return Operation(operation.type, inputs, output.name, _shape(output.type))


def _shape(kind: Any) -> tuple[int, ...]:
    """Lengths of a value's axes.

    Raises:
        CostError: they are unknown, or too many.
    """
    axes = kind.tensorType.dimensions
    if any(axis.WhichOneof("dimension") != "constant" for axis in axes):
        raise CostError("Core ML: a tensor of the program has an axis of unknown length")
    if len(axes) > MOST:
        raise CostError(f"Core ML: a tensor of the program has {len(axes)} axes, of {MOST} at most")
    return tuple(int(axis.constant.size) for axis in axes)


def _constant(value: Any, blob: bytes, types: Any) -> Any:
    """A constant of a program: an array, or text."""
    kind = types.Name(value.type.tensorType.dataType)
    if value.WhichOneof("value") == "blobFileValue":
        return _from_blob(blob, value.blobFileValue.offset, TYPES[kind], _shape(value.type))
    tensor = value.immediateValue.tensor
    stored = getattr(tensor, tensor.WhichOneof("value")).values
    if kind == "STRING":
        return str(stored[0])
    element = TYPES[kind]
    flat = (
        np.frombuffer(stored, element) if isinstance(stored, bytes) else np.array(stored, element)
    )
    return flat.reshape(_shape(value.type))


def _from_blob(
    blob: bytes, offset: int, element: type[np.generic], shape: tuple[int, ...]
) -> NDArray[Any]:
    """An array of the file of weights, in which a header says where it is."""
    mark, _, size, where = struct.unpack_from("<IIQQ", blob, offset)
    wanted = prod(shape) * np.dtype(element).itemsize
    if mark != MARK or size != wanted or where + size > len(blob):
        raise ValueError(f"{BLOB} holds no {wanted} bytes at {offset}")
    return np.frombuffer(blob, element, prod(shape), where).reshape(shape)
