"""Flatbuffer: a TFLite file, built tensor by tensor and operator by operator.

The layout of the file is that of LiteRT's own schema, whose Python classes come with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNED = 16  # bytes on which every constant begins, as kernels read it in place
FIRST_CODES = 127  # operators up to this code are written in the older field as well
NONE = -1  # an input that is left out


@dataclass(frozen=True)
class Scales:
    """How the integers of a constant become numbers: times a scale for each channel.

    Attributes:
        values: a scale for each channel.
        axis: of the channels.
    """

    values: NDArray[np.float32]
    axis: int


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    kind: str
    name: str
    buffer: int
    scales: Scales | None


@dataclass(frozen=True)
class Operator:
    """An operator of the file.

    Attributes:
        kind: name in LiteRT's list of built-in operators.
        inputs: tensors by index, `NONE` where one is left out.
        outputs: tensors by index.
        options: name of LiteRT's class of options, without "Options", and its fields.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: tuple[str, Mapping[str, Any]] | None


@dataclass
class TfliteGraph:
    """A graph that grows; `encode` gives the file.

    Attributes:
        operators: in the order in which they run.
    """

    operators: list[Operator] = field(default_factory=list[Operator])
    _tensors: list[_Tensor] = field(default_factory=list[_Tensor])
    _buffers: list[bytes] = field(default_factory=lambda: [b""])  # the first one is for no data
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict[tuple[Any, ...], int])

    def tensor(self, shape: Sequence[int], kind: str = "FLOAT32", name: str = "") -> int:
        """Add a tensor that is computed; its index."""
        return self._added(_Tensor(tuple(shape), kind, name, 0, None))

    def constant(
        self,
        value: NDArray[Any],
        name: str = "",
        scales: Scales | None = None,
        bits: int = 0,
        shared: bool = False,
    ) -> int:
        """Add a constant; its index.

        Args:
            value: of any type that NumPy and LiteRT share.
            name: for whoever reads the file.
            scales: of integers that stand for other numbers.
            bits: 4 to store two integers of int8 a byte, the first one in the low half.
            shared: whether an equal one that is shared, too, is taken instead.
        """
        kind = "INT4" if bits == 4 else value.dtype.name.upper()
        data = _packed(value) if bits == 4 else np.ascontiguousarray(value).tobytes()
        key = (data, value.shape, kind)
        if shared and key in self._known:
            return self._known[key]
        self._buffers.append(data)
        index = self._added(_Tensor(value.shape, kind, name, len(self._buffers) - 1, scales))
        if shared:
            self._known[key] = index
        return index

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._tensors[tensor].shape

    def value(self, tensor: int) -> NDArray[Any] | None:
        """A constant, integers of 4 bits as int8; None for what is computed."""
        about = self._tensors[tensor]
        data = self._buffers[about.buffer]
        if not about.buffer:
            return None
        if about.kind != "INT4":
            return np.frombuffer(data, about.kind.lower()).reshape(about.shape)
        halves = np.frombuffer(data, np.uint8)
        pairs = np.stack([halves & 15, halves >> 4], 1).reshape(-1)[: prod(about.shape)]
        return ((pairs.astype(np.int8) ^ 8) - 8).reshape(about.shape)

    def scales(self, tensor: int) -> Scales | None:
        """Scales of a constant; None where it has none."""
        return self._tensors[tensor].scales

    def needed(self, output: int) -> list[Operator]:
        """Operators that lead to a tensor."""
        return _needed(self.operators, output)

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Add an operator."""
        self.operators.append(Operator(kind, tuple(inputs), tuple(outputs), options))

    def encode(self, image: int, output: int, about: Mapping[str, str]) -> bytes:
        """The file.

        Args:
            image: tensor that is given.
            output: tensor that is asked for; whatever does not lead to it is left out.
            about: texts by name, kept in the file's metadata.
        """
        schema: Any = import_module("ai_edge_litert.schema_py_generated")
        flatbuffers: Any = import_module("flatbuffers")
        operators = self.needed(output)
        used = [image, *dict.fromkeys(t for o in operators for t in (*o.inputs, *o.outputs))]
        place = {t: i for i, t in enumerate(dict.fromkeys(t for t in used if t != NONE))}
        place[NONE] = NONE
        kept = [self._tensors[t] for t in place if t != NONE]
        filled = dict.fromkeys(t.buffer for t in kept if t.buffer)
        buffer = {0: 0} | {old: new for new, old in enumerate(filled, 1)}
        codes = list(dict.fromkeys(o.kind for o in operators))
        graph = schema.SubGraphT(
            tensors=[_tensor(schema, t, buffer[t.buffer]) for t in kept],
            inputs=[place[image]],
            outputs=[place[output]],
            operators=[_operator(schema, o, codes.index(o.kind), place) for o in operators],
        )
        texts = [text.encode() for text in about.values()]
        datas = [b"", *(self._buffers[old] for old in filled), *texts]
        notes = [
            schema.MetadataT(name=name, buffer=len(filled) + 1 + index)
            for index, name in enumerate(about)
        ]
        model = schema.ModelT(
            version=3,
            operatorCodes=[_code(schema, kind) for kind in codes],
            subgraphs=[graph],
            buffers=[_Buffer(schema, data) for data in datas],
            metadata=notes or None,
        )
        builder = flatbuffers.Builder(sum(map(len, datas)) + 4096)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _added(self, tensor: _Tensor) -> int:
        self._tensors.append(tensor)
        return len(self._tensors) - 1


class _Buffer:
    """A buffer that is aligned, which the generated class is not."""

    def __init__(self, schema: Any, data: bytes) -> None:
        self._schema, self._data = schema, data

    def Pack(self, builder: Any) -> int:
        """Write it; its place."""
        vector = None
        if self._data:
            builder.StartVector(1, len(self._data), ALIGNED)
            builder.head = builder.head - len(self._data)
            builder.Bytes[builder.head : builder.head + len(self._data)] = self._data
            vector = builder.EndVector()
        self._schema.BufferStart(builder)
        if vector is not None:
            self._schema.BufferAddData(builder, vector)
        return self._schema.BufferEnd(builder)


def _packed(value: NDArray[Any]) -> bytes:
    """Signed integers of 4 bits, two a byte, the first one in the low half."""
    flat = value.reshape(-1).astype(np.uint8) & 15
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return (flat[::2] | flat[1::2] << 4).tobytes()


def _needed(operators: Sequence[Operator], output: int) -> list[Operator]:
    """Operators that lead to a tensor."""
    wanted, kept = {output}, list[Operator]()
    for operator in reversed(operators):
        if wanted & set(operator.outputs):
            wanted |= set(operator.inputs)
            kept.append(operator)
    return kept[::-1]


def _tensor(schema: Any, tensor: _Tensor, buffer: int) -> Any:
    quantization = None
    if tensor.scales is not None:
        quantization = schema.QuantizationParametersT(
            scale=tensor.scales.values,
            zeroPoint=np.zeros(tensor.scales.values.size, np.int64),
            quantizedDimension=tensor.scales.axis,
        )
    return schema.TensorT(
        shape=np.array(tensor.shape, np.int32),
        type=getattr(schema.TensorType, tensor.kind),
        buffer=buffer,
        name=tensor.name,
        quantization=quantization,
    )


def _operator(schema: Any, operator: Operator, code: int, place: Mapping[int, int]) -> Any:
    made = schema.OperatorT(
        opcodeIndex=code,
        inputs=np.array([place[t] for t in operator.inputs], np.int32),
        outputs=np.array([place[t] for t in operator.outputs], np.int32),
    )
    if operator.options is not None:
        name, fields = operator.options
        made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name}Options")
        made.builtinOptions = getattr(schema, f"{name}OptionsT")(**fields)
    return made


def _code(schema: Any, kind: str) -> Any:
    code = getattr(schema.BuiltinOperator, kind)
    return schema.OperatorCodeT(deprecatedBuiltinCode=min(code, FIRST_CODES), builtinCode=code)
