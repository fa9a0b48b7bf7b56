"""The program's part for ExecuTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "model.pte"
NEEDS = "torch executorch"


def open_model(
    path: Path, provider: str, threads: int
) -> tuple[dict[str, Any], int, Callable[[Any], Any]]:
    """What a model's file says of itself, images that it takes at once, and a function to run it.

    The function takes images (N, C, S, S), which the file has as (N, S, S, C), and gives logits
    (N, K).
    """
    torch: Any = import_module("torch")
    library: Any = import_module("executorch.extension.pybindings._C")
    library._unsafe_reset_threadpool(threads)
    module = library._load_for_executorch_from_buffer(path.read_bytes())
    about = json.loads(module.run_method("about", ())[0])

    def run(images: Any) -> Any:
        given = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        (answer,) = module.forward((torch.from_numpy(given),), clone_outputs=False)
        return answer.numpy().copy()  # as the next run writes over it

    return about, module.method_meta("forward").input_tensor_meta(0).sizes()[0], run
