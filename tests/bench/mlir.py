"""MLIR: what its compiler IREE makes of our graphs, beside ONNX Runtime on one core, in float32.

`pip install 'iree-base-compiler[onnx]' iree-base-runtime`, which nothing else needs. Every kind of
sub-block, and the largest networks of two presets, are compiled for this processor, answer one
image, and are timed in turn in both. What stops IREE is named.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.modules import build, input_shape, network
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.measure.capabilities import examples
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.standalone.timing import NETWORK_HEAT_MS, measure_session
from vitpareto.spaces import Candidate, SearchSpace

DEVICE = Device.load("cpu-1t")
PRESETS = ("digits", "cifar")
ROUNDS = 9
IMPORT = [sys.executable, "-m", "iree.compiler.tools.import_onnx"]
OPTIONS = ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"]


def main() -> None:
    """Print a line for each graph."""
    if not (find_spec("iree") and find_spec("iree.compiler") and find_spec("iree.runtime")):
        print("IREE is not installed: pip install 'iree-base-compiler[onnx]' iree-base-runtime")
        return
    torch.set_num_threads(1)
    print("| graph | ONNX Runtime | IREE | of its time | difference |\n|---|---|---|---|---|")
    for name, graph, shape in graphs():
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        ours = open_runtime(DEVICE).compile(graph)
        try:
            theirs = Compiled(graph)
            expected, found = ours.run(x), theirs.run(x)
        except (ValueError, RuntimeError) as error:
            print(f"| {name} | | | | {error} |", flush=True)
            continue
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        a, b = measure_session([ours, theirs], [x, x], ROUNDS, heat_ms=NETWORK_HEAT_MS).timings
        print(
            f"| {name} | {a.median_ms:.3f} ms | {b.median_ms:.3f} ms "
            f"| {b.median_ms / a.median_ms:.2f} | {difference:.0e} |",
            flush=True,
        )


def graphs() -> Iterator[tuple[str, onnx.ModelProto, tuple[int, ...]]]:
    """Name, float graph and shape of its input, of sub-blocks and of whole networks."""
    for name, unit in examples().items():
        module, shape = build(unit, DEVICE.batch)
        yield name, to_onnx(module, shape), shape
    for preset in PRESETS:
        largest = Candidate.uncompressed(SearchSpace.from_yaml(preset).largest().architecture)
        shape = input_shape(largest, DEVICE.batch)
        yield f"largest of `{preset}`", to_onnx(network(largest), shape), shape


class Compiled:
    """A graph compiled for one core of this processor.

    Raises:
        ValueError: IREE does not compile it, with the operator that it names.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        compiler: Any = import_module("iree.compiler")
        runtime: Any = import_module("iree.runtime")
        with tempfile.TemporaryDirectory() as folder:
            source, made = Path(folder) / "model.onnx", Path(folder) / "model.mlir"
            onnx.save(graph, source)
            done = subprocess.run([*IMPORT, source, "-o", made], capture_output=True, text=True)
            if done.returncode:
                raise ValueError(f"not imported: {done.stderr.strip().splitlines()[-1]}")
            try:
                program = compiler.compile_file(
                    str(made), input_type="onnx", target_backends=["llvm-cpu"], extra_args=OPTIONS
                )
            except compiler.CompilerToolError as error:
                raise ValueError(_reason(str(error))) from error
        module = runtime.load_vm_flatbuffer(program, driver="local-sync")
        self._call = module[graph.graph.name]

    def run(self, x: Any) -> Any:
        """Input -> output."""
        return np.asarray(self._call(x).to_host())


def _reason(told: str) -> str:
    line = next((line for line in told.splitlines() if "error:" in line), told.splitlines()[0])
    return "not compiled: " + line.partition("error:")[2].strip().replace("|", "/")


if __name__ == "__main__":
    main()
