"""GPU: ONNX Runtime's CUDA and TensorRT providers beside torch, where there is an NVIDIA GPU.

The largest network of a space in float and in 8 bits, in batches of 1, 8 and 32, with and without a
CUDA graph; what falls back to another provider is counted. Where a device cannot be used, one line
says why, and whatever is printed was run. VITPARETO_SPACE names the space.
"""

import os
from dataclasses import replace

import numpy as np
import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.runtimes import available, open_runtime
from vitpareto.cost_models.standalone.runner import CLOCKS
from vitpareto.cost_models.standalone.timing import NETWORK_HEAT_MS, measure_session
from vitpareto.spaces import Candidate, Policy, SearchSpace
from vitpareto.spaces.compression import Compression, StagePolicy
from vitpareto.spaces.errors import CostError

from ._row import HEADER, row

SPACE = os.environ.get("VITPARETO_SPACE", "deit_tiny")
BATCHES, ROUNDS = (1, 8, 32), 12
TORCH = Device("torch-cuda", "torch", "cuda", 1, ("float",))
EIGHT = Policy(weight_bits=8, act_bits=8)


def main() -> None:
    """Print the table of each device that is here, and why of each that is not."""
    devices = [Device.load("cuda"), Device.load("tensorrt"), TORCH]
    reasons = {device.name: available(device) for device in devices}
    here = [device for device in devices if not reasons[device.name]]
    if not here:
        print("no GPU here, nothing was run:", "; ".join(reasons.values()))
        return
    for name, reason in reasons.items():
        print(f"{name}: {reason}" if reason else f"{name}: is here")
    print(HEADER)
    for batch in BATCHES:
        table([replace(device, batch=batch) for device in here])


def ways(device: Device) -> list[Device]:
    """A device as it is and, where it has CUDA graphs, with one."""
    if device.runtime != "onnxruntime":
        return [device]
    return [device, replace(device, options=(*device.options, ("cuda_graph", True)))]


def table(devices: list[Device]) -> None:
    """Latency of one network on all devices, timed in turn."""
    largest = SearchSpace.from_yaml(SPACE).largest()
    candidates = {"float": Candidate.uncompressed(largest.architecture)}
    candidates["int8"] = eight(candidates["float"])
    names, compiled, inputs = list[str](), [], []
    for device in (way for each in devices for way in ways(each)):
        bench, runtime = Bench(device), open_runtime(device)
        for precision, candidate in candidates.items():
            if precision == "int8" and len(device.recipes) == 1:
                continue
            graphed = ", CUDA graph" * ("cuda_graph" in dict(device.options))
            name = f"{device.name} {precision}, batch {device.batch}{graphed}"
            try:
                graph = bench.network(candidate, device.recipes)
                one = runtime.compile(graph.model)
                x = np.random.default_rng(0).standard_normal(graph.shape).astype(np.float32)
                one.run(x)
                others = one.fallbacks() if hasattr(one, "fallbacks") else {}
            except (CostError, RuntimeError) as error:
                print(f"{name}: {str(error).splitlines()[0]}")
                continue
            names.append(f"{name}, {sum(others.values())} fallbacks {others or ''}".rstrip())
            compiled.append(one)
            inputs.append(x)
    if not compiled:
        return
    session = measure_session(
        compiled, inputs, ROUNDS, clock=CLOCKS["wall"], heat_ms=NETWORK_HEAT_MS
    )
    for name, timing in zip(names, session.timings, strict=True):
        rate = devices[0].batch / timing.median_ms * 1e3
        row(name, f"{timing.median_ms:.3f} ms", f"{rate:.0f} images/s",
            f"{timing.p10_ms:.3f} to {timing.p90_ms:.3f}")  # fmt: skip


def eight(candidate: Candidate) -> Candidate:
    """The same network with weights and activations of 8 bits everywhere."""
    depths = [len(stage.blocks) for stage in candidate.architecture.stages]
    stages = tuple(StagePolicy((EIGHT,) * n, (EIGHT,) * n) for n in depths)
    return Candidate(candidate.architecture, Compression(stages, EIGHT, EIGHT))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
