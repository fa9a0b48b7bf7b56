"""The program's part for torch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = "model.torchscript.pt"
NEEDS = "torch"
ABOUT, SHAPE = "about.json", "input_shape"  # extra files of the archive


def open_model(
    path: Path, provider: str, threads: int
) -> tuple[dict[str, Any], int, Callable[[Any], Any]]:
    """What a model's file says of itself, images that it takes at once, and a function to run it.

    The function takes images (N, C, S, S) and gives logits (N, K).
    """
    import torch

    torch.set_num_threads(threads)
    extra = {ABOUT: "", SHAPE: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's future
        module = torch.jit.load(str(path), map_location=provider, _extra_files=extra).eval()

    def run(images: Any) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(images).to(provider)).cpu().numpy()

    return json.loads(extra[ABOUT]), json.loads(extra[SHAPE])[0], run
