"""The program's part for ONNX Runtime."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = "model.onnx"
NEEDS = "onnxruntime"
SESSION: dict[str, Any] = {}
PROVIDER_OPTIONS: dict[str, str] = {}


def open_model(
    path: Path, provider: str, threads: int
) -> tuple[dict[str, Any], int, Callable[[Any], Any]]:
    """What a model's file says of itself, images that it takes at once, and a function to run it.

    The function takes images (N, C, S, S) and gives logits (N, K).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    for name, value in SESSION.items():
        is_level = name == "graph_optimization_level"
        given = getattr(onnxruntime.GraphOptimizationLevel, value) if is_level else value
        setattr(options, name, given)
    wanted = dict.fromkeys((provider, "CPUExecutionProvider"))
    here = [name for name in wanted if name in onnxruntime.get_available_providers()]
    chosen = [(name, PROVIDER_OPTIONS if name == provider else {}) for name in here]
    session = onnxruntime.InferenceSession(str(path), options, providers=chosen)
    if provider not in session.get_providers():
        sys.stderr.write(f"{provider} is not here: it runs on the processor, which was not meant\n")
    (asked,) = session.get_inputs()
    told = session.get_modelmeta().custom_metadata_map
    about = {name: json.loads(text) for name, text in told.items()}
    return about, asked.shape[0], lambda images: session.run(None, {asked.name: images})[0]
