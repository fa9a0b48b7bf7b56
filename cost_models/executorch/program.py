"""Program: a graph of XNNPACK as a file of ExecuTorch, with what is known of it.

The layout is that of ExecuTorch's schema/program.fbs, backends/xnnpack/serialization/schema.fbs
and the headers that its exir/_serialize/_program.py and xnnpack_graph_serialize.py write.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from .flatc import PROGRAM, XNNPACK, compiled

ALIGNED = 16  # bytes on which what follows a header begins
HEADER, XNN_HEADER = 32, 30  # bytes
MAGIC, XNN_MAGIC = b"eh00", b"XH00"
FORWARD, ABOUT = "forward", "about"  # methods of a program


def encode_delegate(graph: Mapping[str, Any], constants: bytes) -> bytes:
    """What XNNPACK is given: a header, the graph and its constants."""
    body = compiled(XNNPACK, graph)
    start = _filled(XNN_HEADER)
    after = start + _filled(len(body))
    header = (
        bytes(4)
        + XNN_MAGIC
        + struct.pack("<HIIIQ", XNN_HEADER, start, len(body), after, len(constants))
    )
    return header.ljust(start, b"\0") + body.ljust(after - start, b"\0") + constants


def encode_program(
    delegate: bytes, given: Sequence[int], answer: Sequence[int], about: str
) -> bytes:
    """A program with two methods: one that runs the delegate, one that tells a text.

    Args:
        delegate: of `encode_delegate`.
        given: shape of the input.
        answer: shape of the output.
        about: the text.
    """
    size = 4 * prod(answer)
    memory = {"memory_id": 1, "memory_offset_low": 0, "memory_offset_high": 0}
    forward = _plan(FORWARD, [_tensor(given), _tensor(answer) | {"allocation_info": memory}]) | {
        "inputs": [0],
        "outputs": [1],
        "chains": [_chain({"delegate_index": 0, "args": [0, 1]})],
        "delegates": [
            {
                "id": "XnnpackBackend",
                "processed": {"location": "SEGMENT", "index": 0},
                "compile_specs": [],
            }
        ],
        "non_const_buffer_sizes": [0, _filled(size)],
    }
    text = {"val_type": "String", "val": {"string_val": about}}
    told = _plan(ABOUT, []) | {"values": [text], "outputs": [0], "chains": [_chain()]}
    body = compiled(
        PROGRAM,
        {
            "version": 0,
            "execution_plan": [forward, told],
            "constant_buffer": [],
            "backend_delegate_data": [],
            "segments": [{"offset": 0, "size": len(delegate)}],
            "constant_segment": {"segment_index": 0, "offsets": [0]},
        },
    )
    # The header goes behind the root offset and the identifier, and moves what follows.
    (root,) = struct.unpack_from("<I", body)
    length = len(body) + HEADER
    base = _filled(length)
    header = MAGIC + struct.pack("<IQQQ", HEADER, length, base, len(delegate))
    program = struct.pack("<I", root + HEADER) + body[4:8] + header + body[8:]
    return program.ljust(base, b"\0") + delegate


def _filled(length: int) -> int:
    return length + -length % ALIGNED


def _plan(name: str, tensors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "container_meta_type": {"encoded_inp_str": "", "encoded_out_str": ""},
        "values": [{"val_type": "Tensor", "val": tensor} for tensor in tensors],
        "inputs": [],
        "outputs": [],
        "chains": [],
        "operators": [],
        "delegates": [],
        "non_const_buffer_sizes": [0],
    }


def _chain(call: Mapping[str, Any] | None = None) -> dict[str, Any]:
    calls = [{"instr_args_type": "DelegateCall", "instr_args": call}] if call else []
    return {"inputs": [], "outputs": [], "instructions": calls}


def _tensor(shape: Sequence[int]) -> dict[str, Any]:
    return {
        "scalar_type": "FLOAT",
        "storage_offset": 0,
        "sizes": list(shape),
        "dim_order": list(range(len(shape))),
        "requires_grad": False,
        "data_buffer_idx": 0,
        "layout": 0,
        "shape_dynamism": "STATIC",
    }
