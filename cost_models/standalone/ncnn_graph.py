"""The graph of ncnn: a file that is opened with ncnn alone, and none of this package.

It is copied into bundles and kits, as graph.py.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from importlib import import_module, metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PACKAGE = MODULE = "ncnn"
MODULES = (MODULE,)  # that are loaded before a model is
PARAM, BIN, ABOUT = "model.ncnn.param", "model.ncnn.bin", "about.json"  # files of an archive
GIVEN, ANSWER = "in0", "out0"  # names of the input and the output
INTEGERS = "18=1"  # of a Gemm that multiplies integers
ROUNDING = (  # options by which ncnn would compute with fewer bits where a processor can
    *("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"),
    *("use_bf16_packed", "use_bf16_storage", "use_vulkan_compute"),
)


def version() -> str:
    """Version that is installed, in the words of `Device.identity`."""
    return metadata.version(PACKAGE)


class Graph:
    """A network, run for one image after the other, since ncnn has no batches.

    Args:
        path: of an archive with the two files of ncnn.
        device: its threads.

    Attributes:
        input_shape: of a batch of images.

    Raises:
        RuntimeError: ncnn refuses the file.
        ValueError: it is no such archive.
    """

    def __init__(self, path: str, device: dict[str, Any]) -> None:
        self._ncnn: Any = import_module(MODULE)
        self._net = self._ncnn.Net()
        for name in ROUNDING:
            if hasattr(self._net.opt, name):
                setattr(self._net.opt, name, False)
        self._net.opt.num_threads = device["threads"]
        try:
            with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
                about = json.loads(archive.read(ABOUT))
                self._text = archive.read(PARAM).decode()
                for name in (PARAM, BIN):
                    archive.extract(name, folder)
                self._load(Path(folder))
        except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
            raise ValueError(f"not an archive with {PARAM}, {BIN} and {ABOUT}") from error
        self.input_shape: list[int] = about["input_shape"]
        batch, *given = self.input_shape
        images, *answer = about["output_shape"]
        self._given, self._answer = _without_ones(given), (images // batch, *answer)

    def _load(self, folder: Path) -> None:
        if self._net.load_param(str(folder / PARAM)):
            raise RuntimeError(f"{PARAM} has a layer that this version lacks")
        if self._net.load_model(str(folder / BIN)):
            raise RuntimeError(f"{BIN} is not what {PARAM} says")

    def run(self, images: Any) -> Any:
        """Inputs -> first output."""
        import numpy as np

        answers = [self._run_one(np.ascontiguousarray(image, np.float32)) for image in images]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _run_one(self, image: Any) -> Any:
        import numpy as np

        extractor = self._net.create_extractor()
        # A copy of its own: layers that work in place would write into the caller's, and want
        # its memory aligned.
        extractor.input(GIVEN, self._ncnn.Mat(image.reshape(self._given)).clone())
        failed, answer = extractor.extract(ANSWER)
        if failed:
            raise RuntimeError(f"ncnn stopped with code {failed}")
        return np.array(answer).reshape(self._answer)

    def kernels(self) -> dict[str, int]:
        """Layers with what they multiply."""
        return kernels_of(self._text, self._net)


def kernels_of(text: str, net: Any) -> dict[str, int]:
    """Layers of a network that is loaded, with what they multiply, which its text says."""
    lines = text.splitlines()[2:]
    counts: Counter[str] = Counter()
    for layer, line in zip(net.layers(), lines, strict=True):
        if layer.type not in ("Input", "MemoryData", "Split"):
            integers = layer.type == "Gemm" and INTEGERS in line.split()
            counts[f"{layer.type}:{'int8' if integers else 'float32'}"] += 1
    return dict(counts)


def _without_ones(shape: list[int]) -> list[int]:
    """A shape without the axes of length 1 before the others, as ncnn has it."""
    first = next((axis for axis, length in enumerate(shape) if length > 1), len(shape) - 1)
    return shape[first:]
