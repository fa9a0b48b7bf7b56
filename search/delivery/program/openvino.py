"""The program's part for OpenVINO."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

MODEL = "model.onnx"
NEEDS = "openvino"
TOLD = "framework"  # where OpenVINO keeps the metadata of an ONNX file


def open_model(
    path: Path, provider: str, threads: int
) -> tuple[dict[str, Any], int, Callable[[Any], Any]]:
    """What a model's file says of itself, images that it takes at once, and a function to run it.

    The function takes images (N, C, S, S) and gives logits (N, K).
    """
    openvino: Any = import_module("openvino")  # without type stubs
    core = openvino.Core()
    read = core.read_model(str(path))
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(read, provider, options)
    request, (output,) = compiled.create_infer_request(), compiled.outputs
    told = {name: read.get_rt_info([TOLD, name]) for name in read.get_rt_info(TOLD).value}
    about = {name: json.loads(value.astype(str)) for name, value in told.items()}
    batch = int(compiled.inputs[0].shape[0])
    return about, batch, lambda images: request.infer([images])[output]
