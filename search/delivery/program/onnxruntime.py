"""The program's part for ONNX Runtime."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = "model.onnx"
EXITS = "exits.json"  # beside a model with exits: from which confidence on each of them answers
PART = "part_{}.onnx"  # files of such a model, which hand over
NEEDS = "onnxruntime"
SESSION: dict[str, Any] = {}
PROVIDERS: list[tuple[str, dict[str, str]]] = []


def open_model(
    path: Path, provider: str, threads: int
) -> tuple[dict[str, Any], int, Callable[[Any], Any]]:
    """What a model's file says of itself, images that it takes at once, and a function to run it.

    The function takes images (N, C, S, S) and gives logits (N, K). Of a model with exits it runs
    one part after the other, until one is sure enough.
    """
    rule, above, paths = path.with_name(EXITS), list[float](), [path]
    if rule.is_file():
        above = [float(limit) for limit in json.loads(rule.read_bytes())["leave_above"]]
        paths = [path.with_name(PART.format(number)) for number in range(len(above) + 1)]
    sessions = [open_session(file, provider, threads) for file in paths]
    told = sessions[0].get_modelmeta().custom_metadata_map
    about = {name: json.loads(text) for name, text in told.items()}

    def run(x: Any) -> Any:
        logits = x
        for session, limit in zip(sessions, [*above, 0.0], strict=True):
            (asked,) = session.get_inputs()
            logits, *rest = session.run(None, {asked.name: x})
            if not rest or sure(logits) >= limit:
                break
            x = rest[0]
        return logits

    return about, sessions[0].get_inputs()[0].shape[0], run


def sure(logits: Any) -> float:
    """Probability of the likeliest class of one image, from logits (1, K)."""
    row = logits[0].astype("float64")
    shares = math.e ** (row - row.max())
    return float(shares.max() / shares.sum())


def open_session(path: Path, provider: str, threads: int) -> Any:
    """A session of ONNX Runtime as the model was delivered for."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    for name, value in SESSION.items():
        is_level = name == "graph_optimization_level"
        given = getattr(onnxruntime.GraphOptimizationLevel, value) if is_level else value
        setattr(options, name, given)
    wanted = dict(PROVIDERS) | {"CPUExecutionProvider": {}}
    here = [name for name in wanted if name in onnxruntime.get_available_providers()]
    chosen = [(name, wanted[name]) for name in here]
    session = onnxruntime.InferenceSession(str(path), options, providers=chosen)
    if provider not in session.get_providers():
        sys.stderr.write(f"{provider} is not here: it runs on the processor, which was not meant\n")
    return session
