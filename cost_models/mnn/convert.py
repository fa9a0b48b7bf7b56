"""Convert: an ONNX graph as a file of MNN, made by MNN's converter in a process of its own.

The converter takes many graphs that MNN then cannot run, and dies of some. So the process runs what
it made once, and only what survived both comes back.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from ...spaces.errors import CostError, last_line
from ..onnx_ranking import without_top_k
from ..onnx_reading import OnnxReading, told_of
from ..stored_floats import with_floats
from ..stored_weights import StoredWeights
from . import converter
from .converter import ABOUT, GRAPH, MADE
from .exact_gelu import exact_gelu
from .fields import UUID, text_at

REFUSED = re.compile(r"Op Not Support:(?: \w*::)(\w+)")  # what the converter prints
LONGEST_S = 600.0


class _Reading(OnnxReading):
    target = "MNN"


def to_mnn(
    model: onnx.ModelProto,
    weights: Mapping[str, StoredWeights] | None = None,
    about: Mapping[str, str] | None = None,
) -> bytes:
    """A file of MNN.

    Args:
        model: a graph in float32 with one input and one output, as `graphs.to_onnx` makes it.
        weights: how layers are stored, by the name of their weight in the graph; the file holds
            what they are rounded to in float32.
        about: JSON by name, kept in the file.

    Raises:
        CostError: an operator that MNN does not know, by name; a graph of which its converter or
            the file that it made dies; a layer that is to multiply integers.
    """
    # With TopK in it, one network answered wrongly in 2 of about 30 conversions, unexplained.
    graph = exact_gelu(without_top_k(with_floats(model, weights or {}, "MNN")))
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / GRAPH).write_bytes(graph.SerializeToString())
        (place / ABOUT).write_text(json.dumps(told_of(about)), encoding="utf-8")
        command = [sys.executable, "-m", converter.__name__, folder]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LONGEST_S)
        except subprocess.TimeoutExpired as error:
            raise CostError(f"MNN: its converter takes longer than {LONGEST_S:.0f} s") from error
        if done.returncode:
            printed = (done.stdout + done.stderr).decode(errors="replace")
            raise _refusal(model, done.returncode, printed, (place / MADE).exists())
        content = (place / MADE).read_bytes()
    return _always_the_same(content)


def _refusal(model: onnx.ModelProto, code: int, printed: str, made: bool) -> CostError:
    """Why a process failed, in one line."""
    if found := REFUSED.search(printed):
        node = next(n for n in model.graph.node if n.op_type == found[1])
        return _Reading(model, {}).refusal(node, "has no conversion")
    what = "the file that its converter made" if made else "its converter"
    if code < 0:
        return CostError(f"MNN: {what} stops with {signal.Signals(-code).name}")
    return CostError(f"MNN: {what} fails: {last_line(printed)}")


def _always_the_same(content: bytes) -> bytes:
    """A file with a name made of what it holds, in place of a random one."""
    where = text_at(content, UUID)
    blank = content[: where.start] + bytes(where.stop - where.start) + content[where.stop :]
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, blank.hex())).encode()
    return content[: where.start] + name + content[where.stop :]
