"""Converter: MNN's own, and one run of what it made, in a process that may die of either.

Called as `python -m vitpareto.cost_models.mnn.converter DIR`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from ..standalone.mnn_graph import Graph

GRAPH, ABOUT, MADE = "model.onnx", "about.json", "model.mnn"  # files of the folder


def main(folder: Path) -> int:
    """Convert the graph of a folder; 1 where MNN makes nothing of it."""
    made = folder / MADE
    words = ["mnnconvert", "-f", "ONNX", "--modelFile", str(folder / GRAPH)]
    words += ["--MNNModel", str(made), "--bizCode", (folder / ABOUT).read_text(encoding="utf-8")]
    # `MNN.tools.mnnconvert` would install what reports its use to its makers.
    import_module("_tools").mnnconvert(words)
    if not made.exists():
        return 1
    graph = Graph(str(made), {"threads": 1})
    graph.run(np.zeros(graph.input_shape, np.float32))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
