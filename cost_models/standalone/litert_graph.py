"""LiteRT's graph: a file that is opened with ai-edge-litert alone, and none of this package.

It is copied into bundles and kits, as graph.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from typing import Any

PACKAGE = "ai-edge-litert"
MODULE = "ai_edge_litert.interpreter"
MODULES = (MODULE,)  # that are loaded before a model is
DELEGATE = "DELEGATE"  # stands for all operators that XNNPACK runs together
MULTIPLIES = ("FULLY_CONNECTED", "CONV_2D")  # their second operand tells what they multiply


def version() -> str:
    """Version that is installed, in the words of `Device.identity`."""
    return metadata.version(PACKAGE)


class Graph:
    """An interpreter.

    Args:
        path: of a TFLite file.
        device: its threads.

    Attributes:
        input_shape: of a batch of images; channels come last.

    Raises:
        RuntimeError: LiteRT refuses the file.
        ValueError: likewise.
    """

    def __init__(self, path: str, device: dict[str, Any]) -> None:
        interpreter: Any = import_module(MODULE).Interpreter
        self._interpreter = interpreter(model_path=path, num_threads=device["threads"])
        self._interpreter.allocate_tensors()
        (given,), (answer, *_) = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        self._given, self._answer = given["index"], answer["index"]
        self.input_shape = [int(n) for n in given["shape"]]

    def run(self, x: Any) -> Any:
        """Inputs -> first output; channels of images come first here, and last in the file."""
        given = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
        self._interpreter.set_tensor(self._given, given)
        self._interpreter.invoke()
        answer = self._interpreter.get_tensor(self._answer)
        return answer.transpose(0, 3, 1, 2) if answer.ndim == 4 else answer

    def kernels(self) -> dict[str, int]:
        """Executed operators with what they multiply."""
        return kernels_of(self._interpreter)


def kernels_of(interpreter: Any) -> dict[str, int]:
    """Executed operators with what they multiply, "plain" ones without a kernel of XNNPACK."""
    operators = interpreter._get_ops_details()
    computed = {tensor for o in operators for tensor in o["outputs"].tolist()}
    fast = _delegated(operators)
    counts: Counter[str] = Counter()
    for operator in operators:
        name = operator["op_name"]
        at_load = name == "DEQUANTIZE" and operator["inputs"][0] not in computed
        if name == DELEGATE or (at_load and operator["index"] in fast):
            continue
        kind = operator["operand_types"][1 if name in MULTIPLIES else 0]
        plain = "" if operator["index"] in fast else "plain "
        counts[f"{plain}{name}:{_name(kind)}"] += 1
    return dict(counts)


def _name(kind: Any) -> str:
    """Name of a numeric type."""
    import numpy as np

    return np.dtype(kind).name


def _delegated(operators: Sequence[Mapping[str, Any]]) -> set[int]:
    """Indices of the operators that XNNPACK runs: those between ends of its parts of the graph."""
    made = {t: o for o in operators if o["op_name"] != DELEGATE for t in o["outputs"].tolist()}
    inside: set[int] = set()
    for part in (o for o in operators if o["op_name"] == DELEGATE):
        edge, waiting = set(part["inputs"].tolist()), part["outputs"].tolist()
        while waiting:
            tensor = waiting.pop()
            if tensor in edge or tensor not in made or made[tensor]["index"] in inside:
                continue
            inside.add(made[tensor]["index"])
            waiting += made[tensor]["inputs"].tolist()
    return inside
