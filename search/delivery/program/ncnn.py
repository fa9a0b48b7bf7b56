"""The program's part for ncnn."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

MODEL = "model.ncnn.zip"
NEEDS = "ncnn"
PARAM, BIN, ABOUT = "model.ncnn.param", "model.ncnn.bin", "about.json"  # files of the archive
ROUNDING = (  # options by which ncnn would compute with fewer bits where a processor can
    *("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"),
    *("use_bf16_packed", "use_bf16_storage"),
)


def open_model(
    path: Path, provider: str, threads: int
) -> tuple[dict[str, Any], int, Callable[[Any], Any]]:
    """What a model's file says of itself, images that it takes at once, and a function to run it.

    The function takes images (N, C, S, S), which ncnn runs one by one, and gives logits (N, K).
    """
    library: Any = import_module("ncnn")
    network = library.Net()
    network.opt.num_threads = threads
    for name in ROUNDING:
        if hasattr(network.opt, name):
            setattr(network.opt, name, False)
    with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
        about = json.loads(archive.read(ABOUT))
        archive.extractall(folder, (PARAM, BIN))
        network.load_param(f"{folder}/{PARAM}")
        network.load_model(f"{folder}/{BIN}")

    def run_one(image: Any) -> Any:
        extractor = network.create_extractor()
        extractor.input("in0", library.Mat(np.ascontiguousarray(image)).clone())
        return np.array(extractor.extract("out0")[1])

    def run(images: Any) -> Any:
        return np.stack([run_one(image) for image in images])

    return about, about["input_shape"][0], run
