"""Packages: what each extra of the package installs, and one line that says what is missing.

Loading spaces, candidates and cost models needs the three packages that are always installed; all
else is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from .errors import MissingPackageError

LISTED = 4  # packages that a message names at most
EXTRAS: Mapping[str, Mapping[str, str]] = {  # extra -> package, as pip calls it -> its module
    "search": {
        "torch": "torch",
        "ray": "ray",
        "optuna": "optuna",
        "onnx": "onnx",
        "onnxruntime": "onnxruntime",
        "onnxscript": "onnxscript",
        "timm": "timm",
        "scikit-learn": "sklearn",
        "scipy": "scipy",
        "pydantic": "pydantic",
        "pillow": "PIL",
        "ImageHash": "imagehash",
        "matplotlib": "matplotlib",
        "safetensors": "safetensors",
        "filelock": "filelock",
        "joblib": "joblib",
        "threadpoolctl": "threadpoolctl",
        "tqdm": "tqdm",
    },
    "cluster": {"psycopg": "psycopg", "grpcio": "grpc"},
    "coreml": {"coremltools": "coremltools"},
    "executorch": {"executorch": "executorch"},
    "litert": {"ai-edge-litert": "ai_edge_litert"},
    "mnn": {"MNN": "MNN"},
    "ncnn": {"ncnn": "ncnn"},
    "openvino": {"openvino": "openvino"},
    "parquet": {"pyarrow": "pyarrow"},
    "qnn": {"onnxruntime-qnn": "onnxruntime_qnn"},
    "tensor": {"tensorly": "tensorly"},
}


@contextmanager
def needed(by: str) -> Generator[None]:
    """Import packages of an extra; a missing one is one line that says what to install.

    Args:
        by: what needs them, for the message.

    Raises:
        MissingPackageError: one is not installed.
        ModuleNotFoundError: likewise, but no extra has it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((x for x, packages in EXTRAS.items() if module in packages.values()), None)
        packages = EXTRAS[extra] if extra else {}
        missing = [name for name, found in packages.items() if find_spec(found) is None]
        if not missing:  # a module of it alone, which no installation adds
            raise
        listed, more = ", ".join(missing[:LISTED]), len(missing) - LISTED
        raise MissingPackageError(
            f"{by} needs packages that are not installed: {listed}"
            + (f" and {more} more" if more > 0 else "")
            + f": pip install 'vitpareto[{extra}]'"
        ) from error
