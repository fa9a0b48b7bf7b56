"""The program's part for LiteRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

MODEL = "model.tflite"
NEEDS = "ai-edge-litert"


def open_model(
    path: Path, provider: str, threads: int
) -> tuple[dict[str, Any], int, Callable[[Any], Any]]:
    """What a model's file says of itself, images that it takes at once, and a function to run it.

    The function takes images (N, C, S, S), which the file has as (N, S, S, C), and gives logits
    (N, K).
    """
    runtime: Any = import_module("ai_edge_litert.interpreter")
    schema: Any = import_module("ai_edge_litert.schema_py_generated")
    content = path.read_bytes()
    interpreter: Any = runtime.Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    (asked,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    model = schema.Model.GetRootAs(content, 0)
    notes = [model.Metadata(index) for index in range(model.MetadataLength())]
    about = {
        note.Name().decode(): json.loads(model.Buffers(note.Buffer()).DataAsNumpy().tobytes())
        for note in notes
    }

    def run(images: Any) -> Any:
        interpreter.set_tensor(asked["index"], images.transpose(0, 2, 3, 1))
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    return about, int(asked["shape"][0]), run
