"""Packing: sparse low-bit weights as bytes, the positions of the zeros included.

ONNX has no such tensor and no common runtime multiplies by one: this makes a download or a flash
image smaller, and no network faster.

A file is the format name, the length of a JSON header, the header (shape, bits and index of
every tensor, and where it ends) and the tensors. A tensor is its scales in float32, one an
output channel, then its positions, then its values:

- "bitmap": one bit for every weight, set where it is not zero;
- "gaps": 4 bits for every stored value, the number of zeros before it (Han et al., Deep
  Compression, arXiv:1510.00149); where more than 15 zeros lie between two values, a stored zero
  fills in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from ...spaces.errors import RunError
from ..store.atomic_files import write_atomic
from .quantize import Grid, integers

MAGIC = b"vitpareto sparse weights 1\n"
GAP_BITS = 4
LONGEST_GAP = 2**GAP_BITS - 1

Index = Literal["bitmap", "gaps"]
Bits = NDArray[np.uint8]


def save_packed(path: Path, weights: Mapping[str, Tensor], bits: int, index: Index) -> int:
    """Write weights (out, ...) with their zeros and return the size of the file in bytes.

    Args:
        path: of the file.
        weights: by name; other values than zero are rounded to a symmetric grid per channel.
        bits: of a value, 2 to 8.
        index: how positions are kept.

    Raises:
        RunError: the file cannot be written.
    """
    header: dict[str, dict[str, Any]] = {}
    body = b""
    for name, weight in weights.items():
        values, scale, _ = integers(weight.detach(), Grid(bits))
        body += scale.numpy().astype("<f4").tobytes()
        body += pack(values.numpy().astype(np.int8).reshape(-1), bits, index)
        header[name] = {"shape": [*weight.shape], "bits": bits, "index": index, "end": len(body)}
    text = json.dumps(header, separators=(",", ":")).encode()
    content = MAGIC + len(text).to_bytes(4, "little") + text + body
    write_atomic(path, content)
    return len(content)


def load_packed(path: Path) -> dict[str, Tensor]:
    """The weights of a file that `save_packed` wrote, by name.

    Raises:
        RunError: the file cannot be read, or is no such file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    if not content.startswith(MAGIC):
        raise RunError(f"{path}: does not start with {MAGIC!r}: no packed weights")
    start = len(MAGIC) + 4
    body = start + int.from_bytes(content[len(MAGIC) : start], "little")
    weights: dict[str, Tensor] = {}
    try:
        begin = body
        for name, about in json.loads(content[start:body]).items():
            shape, end = about["shape"], body + about["end"]
            scale = np.frombuffer(content, "<f4", shape[0], begin)
            raw = content[begin + scale.nbytes : end]
            values = unpack(raw, int(np.prod(shape)), about["bits"], about["index"])
            rows = values.reshape(shape[0], -1) * scale[:, None]
            weights[name] = from_numpy(rows.reshape(shape).astype(np.float32))
            begin = end
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise RunError(f"{path}: damaged: {error}") from error
    return weights


def pack(values: NDArray[np.int8], bits: int, index: Index) -> bytes:
    """Integers (n,) of `bits` bits as positions and values of those that are not zero."""
    if index == "bitmap":
        return _bytes(values != 0) + _bytes(_to_bits(values[values != 0], bits))
    gaps, kept = _with_fillers(values)
    count = len(kept).to_bytes(4, "little")
    return count + _bytes(_to_bits(gaps, GAP_BITS)) + _bytes(_to_bits(kept, bits))


def unpack(raw: bytes, n: int, bits: int, index: Index) -> NDArray[np.int8]:
    """Inverse of `pack` for n integers."""
    unpacked = np.zeros(n, np.int8)
    if index == "bitmap":
        where = _unpacked(raw, n).astype(bool)
        unpacked[where] = _signed(raw[-(-n // 8) :], int(where.sum()), bits)
        return unpacked
    count, raw = int.from_bytes(raw[:4], "little"), raw[4:]
    gaps = _from_bits(_unpacked(raw, count * GAP_BITS), GAP_BITS)
    values = _signed(raw[-(-count * GAP_BITS // 8) :], count, bits)
    unpacked[np.cumsum(gaps + 1) - 1] = values
    return unpacked


def packed_bits(share: float, bits: int, index: Index) -> float:
    """Bits a weight at a share of zeros, positions included, scales and fillers left out.

    >>> round(packed_bits(0.9, 4, "bitmap"), 3), round(packed_bits(0.9, 4, "gaps"), 3)
    (1.4, 0.8)
    """
    return (1 - share) * bits + (1.0 if index == "bitmap" else (1 - share) * GAP_BITS)


def _with_fillers(values: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Zeros before each stored value, and the values, of which some only bridge a long gap."""
    where = np.flatnonzero(values)
    gaps = np.diff(where, prepend=-1) - 1
    fillers = gaps // (LONGEST_GAP + 1)  # each stands for 15 zeros and itself
    lengths = np.full(len(where) + int(fillers.sum()), LONGEST_GAP)
    stored = np.zeros(len(lengths), np.int8)
    last = np.cumsum(fillers + 1) - 1
    lengths[last], stored[last] = gaps - fillers * (LONGEST_GAP + 1), values[where]
    return lengths, stored


def _to_bits(values: NDArray[Any], bits: int) -> Bits:
    """The low bits of integers (n,) one after the other (n * bits,), two's complement."""
    return (values.astype(np.int64)[:, None] >> np.arange(bits) & 1).astype(np.uint8).reshape(-1)


def _from_bits(flat: Bits, bits: int) -> NDArray[np.int64]:
    return (flat.reshape(-1, bits).astype(np.int64) << np.arange(bits)).sum(1)


def _signed(raw: bytes, n: int, bits: int) -> NDArray[np.int8]:
    values = _from_bits(_unpacked(raw, n * bits), bits)
    return (values - (values >> (bits - 1) << bits)).astype(np.int8)


def _bytes(bits: NDArray[Any]) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()


def _unpacked(raw: bytes, n: int) -> Bits:
    """The first n bits.

    Raises:
        ValueError: there are not so many.
    """
    if len(raw) * 8 < n:
        raise ValueError(f"need {n} bits, got {len(raw) * 8}")
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=n, bitorder="little")
