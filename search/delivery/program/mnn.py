"""The program's part for MNN."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "model.mnn"
NEEDS = "MNN"
TILES = 3  # a hint: with more than one size of tiles, convolutions are less exact and no faster


def open_model(
    path: Path, provider: str, threads: int
) -> tuple[dict[str, Any], int, Callable[[Any], Any]]:
    """What a model's file says of itself, images that it takes at once, and a function to run it.

    The function takes images (N, C, S, S) and gives logits (N, K).
    """
    settings = {"backend": provider, "precision": "high", "numThread": threads}
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # MNN prints where answers are expected
    try:
        library: Any = import_module("MNN")
        network = library.Interpreter(str(path))
        network.setSessionHint(TILES, 1)
        session = network.createSession(settings)
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
    given, made = network.getSessionInput(session), network.getSessionOutput(session)

    def tensor_of(x: Any) -> Any:
        kind, order = library.Halide_Type_Float, library.Tensor_DimensionType_Caffe
        return library.Tensor(x.shape, kind, x, order)

    answer = tensor_of(np.zeros(made.getShape(), np.float32))

    def run(images: Any) -> Any:
        given.copyFrom(tensor_of(np.ascontiguousarray(images, np.float32)))
        network.runSession(session)
        made.copyToHostTensor(answer)
        return np.array(answer.getNumpyData()).reshape(made.getShape())

    return json.loads(biz_code(path.read_bytes())), int(given.getShape()[0]), run


def biz_code(content: bytes) -> bytes:
    """The text that a file holds for its makers: the first field of a flatbuffer's root."""
    (root,) = struct.unpack_from("<I", content, 0)
    table = root - struct.unpack_from("<i", content, root)[0]
    start = root + struct.unpack_from("<H", content, table + 4)[0]
    start += struct.unpack_from("<I", content, start)[0]
    (length,) = struct.unpack_from("<I", content, start)
    return content[start + 4 : start + 4 + length]
