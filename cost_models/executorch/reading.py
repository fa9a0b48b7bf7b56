"""Reading: what a program of ExecuTorch holds, by the flatbuffer compiler that comes with it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...spaces.errors import CostError
from ..standalone.executorch_graph import is_whole
from .flatc import PROGRAM, XNNPACK, decompiled
from .program import ABOUT, XNN_MAGIC

LINEAR = ("FullyConnected", "Conv2d")
STORED = {"xnn_datatype_fp32": "float32", "xnn_datatype_qcint8": "int8"}


@dataclass(frozen=True)
class StoredNode:
    """A node of XNNPACK's graph.

    Attributes:
        kind: without "XNN".
        weights: how its weights are stored; empty where it has none.
        integers: whether it multiplies integers.
    """

    kind: str
    weights: str
    integers: bool


@dataclass(frozen=True)
class ProgramFile:
    """A program.

    Attributes:
        nodes: of XNNPACK's graph, in order.
        about: what it says of itself, by name.
    """

    nodes: Sequence[StoredNode]
    about: Mapping[str, Any]


def read_file(content: bytes) -> ProgramFile:
    """What a file holds.

    Raises:
        CostError: it is no program of ours, or damaged.
        ModuleNotFoundError: ExecuTorch is not installed.
    """
    if not is_whole(content):
        raise CostError("not a program of ExecuTorch, or a part of it is missing")
    (base,) = struct.unpack_from("<Q", content, 24)
    if content[base + 4 : base + 8] != XNN_MAGIC:
        raise CostError("not a program that XNNPACK runs as a whole")
    plans = decompiled(PROGRAM, content[:base])["execution_plan"]
    (told,) = (plan for plan in plans if plan["name"] == ABOUT)
    start, size = struct.unpack_from("<II", content, base + 10)
    body = content[base + start : base + start + size]
    return ProgramFile(
        _nodes(decompiled(XNNPACK, body)), json.loads(told["values"][0]["val"]["string_val"])
    )


def _nodes(graph: Mapping[str, Any]) -> list[StoredNode]:
    kinds = [
        value["xvalue_union"].get("tensor_value", value["xvalue_union"])["datatype"]
        for value in graph["xvalues"]
    ]
    nodes: list[StoredNode] = []
    for node in graph["xnodes"]:
        kind, about = node["xnode_union_type"].removeprefix("XNN"), node["xnode_union"]
        weights = STORED[kinds[about["filter_id"]]] if "filter_id" in about else ""
        rounded = bool(weights) and kinds[about["input1_id"]] == "xnn_datatype_qdint8"
        nodes.append(StoredNode(kind, weights, rounded))
    return nodes
