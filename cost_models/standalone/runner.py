"""Runner: times a folder of model files, in a process of its own.

The folder holds `plan.json` and the files it names; the answer goes into `result.json`. A fresh
process starts from the same memory every time, as the application that will use a model does.

This file, timing.py, energy_meter.py, gpu.py, silence.py and the graph of a runtime need numpy and
that runtime only, and nothing of this package. They are copied into bundles, where `python run.py`
(this file) measures another machine, and into kits, where run.py (kit_runner.py here) uses it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .energy_meter import energy_mj, find_meter
from .gpu import gpu_name, on_gpu
from .onnxruntime_graph import MODULES, PACKAGE, Graph, version
from .timing import (
    ONE_BY_ONE,
    PLAN,
    RESULT,
    Session,
    Timing,
    answer_of,
    measure_beside,
    measure_session,
    stopwatch,
)

Plan = dict[str, Any]
REFUSALS = (RuntimeError, ValueError)  # by which runtimes refuse a file, or to run it
Timings = tuple[dict[int, tuple[Timing, list[float]]], Any]  # of each graph; factors of the session
THREAD, WALL = "thread", "wall"
CLOCKS = {THREAD: time.thread_time, WALL: time.perf_counter}  # in seconds
# Flags that choose the kernels of CPU runtimes.
ISA = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimddp", "i8mm", "sve2"),
)


def time_folder(
    folder: Path, compile_file: Callable[[str, dict[str, Any]], Any], way: str
) -> dict[str, Any]:
    """Time every graph of a plan in one session.

    Args:
        folder: with `plan.json`, whose last graphs are anchors.
        compile_file: (path, device) -> something with a `run`.
        way: of timing, `IN_TURN` or `ONE_BY_ONE`.

    Returns:
        The session's drift, and for each graph its timing and that of the anchors, or why it was
        refused. Of a graph that is timed by itself they are those just before and after it.
    """
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    device, graphs = plan["device"], plan["graphs"]
    rng = np.random.default_rng(plan["seed"])
    last = plan.get("channels_last", False)
    drawn = (rng.standard_normal(graph["shape"]).astype(np.float32) for graph in graphs)
    inputs = [laid_out(x, last) for x in drawn]
    answers: list[dict[str, Any]] = [{} for _ in graphs]

    def opened(index: int) -> Any:
        try:
            graph = compile_file(str(folder / graphs[index]["file"]), device)
            stopwatch(graph, inputs[index], CLOCKS[plan["clock"]])(1, 1, 0)  # some are refused then
        except REFUSALS as error:
            answers[index] = {"refused": (str(error).splitlines() or [""])[0]}
            return None
        return graph

    order = rng.permutation(len(graphs)).tolist()
    time_them = _one_by_one if way == ONE_BY_ONE else _in_turn
    timings, factors = time_them(plan, order, opened, inputs)
    for index, (timing, anchors_ms) in timings.items():
        answers[index] = answer_of(timing, anchors_ms)
    return {
        "way": way,
        "drift": Session([], factors).drift,
        "factors": [round(float(factor), 5) for factor in factors],
        "unix_time": int(time.time()),
        "graphs": answers,
    }


def laid_out(x: Any, channels_last: bool) -> Any:
    """The same values in memory as a runtime reads them, which may have channels of images last."""
    if not channels_last or x.ndim != 4:
        return x
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _in_turn(
    plan: Plan, order: list[int], opened: Callable[[int], Any], inputs: list[Any]
) -> Timings:
    """All graphs live at once; what the anchors took is the same for all."""
    live = {index: one for index in order if (one := opened(index))}
    if not live:
        return {}, np.ones(1)
    session = measure_session(
        list(live.values()),
        [inputs[index] for index in live],
        plan["rounds"],
        seed=plan["seed"],
        clock=CLOCKS[plan["clock"]],
        heat_ms=plan["heat_ms"],
    )
    timings = dict(zip(live, session.timings, strict=True))
    anchors_ms = [timings[i].median_ms for i in _anchors(plan) if i in timings]
    return {index: (timing, anchors_ms) for index, timing in timings.items()}, session.factors


def _one_by_one(
    plan: Plan, order: list[int], opened: Callable[[int], Any], inputs: list[Any]
) -> Timings:
    """Each graph lives as long as it is timed, and the anchors all the while."""
    places, clock = _anchors(plan), CLOCKS[plan["clock"]]
    anchors = [stopwatch(one, inputs[index], clock) for index in places if (one := opened(index))]
    timings: dict[int, tuple[Timing, list[float]]] = {}
    for index in order:
        if index not in places and (one := opened(index)):
            timings[index] = measure_beside(stopwatch(one, inputs[index], clock), anchors)
    levels = np.array([np.mean(np.log(anchors_ms)) for _, anchors_ms in timings.values()])
    return timings, np.exp(levels - np.median(levels)) if timings else np.ones(1)


def _anchors(plan: Plan) -> range:
    """Indices of the anchors in a plan: its last graphs."""
    count = len(plan["graphs"])
    return range(count - plan["anchors"], count)


def pin(device: dict[str, Any]) -> None:
    """Stay on the device's cores, where the system allows it."""
    if device.get("affinity") and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, device["affinity"])


def machine() -> dict[str, Any]:
    """Facts of this machine that belong to the identity of a number."""
    path = Path("/proc/cpuinfo")
    name, isa = told_of_cpu(path.read_text(encoding="utf-8") if path.exists() else "")
    return {
        "processor": name or _brand() or platform.processor() or platform.machine(),
        "isa": isa,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def told_of_cpu(text: str) -> tuple[str, str]:
    """Name of a processor and its flags of `ISA`, as /proc/cpuinfo tells; empty where it does not.

    Cores of ARM have numbers in place of a name: those of their maker and of their kind.
    """
    lines = (line.partition(":") for line in text.splitlines())
    pairs = [(key.strip(), value.strip()) for key, _, value in lines]
    names = [value for key, value in pairs if key in ("model name", "Hardware", "Model")]
    makers, kinds = (
        [value for key, value in pairs if key == asked] for asked in ("CPU implementer", "CPU part")
    )
    cores = dict.fromkeys(f"{maker}/{kind}" for maker, kind in zip(makers, kinds, strict=False))
    flags = next((v.split() for key, v in pairs if key in ("flags", "Features")), [])
    return (
        names[0] if names else f"ARM {', '.join(cores)}" if cores else "",
        " ".join(name for name in ISA if name in flags),
    )


@cache
def _brand() -> str:
    """Name of the processor of a Mac; empty elsewhere, and where nothing tells."""
    if sys.platform != "darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def identity(device: dict[str, Any], chip: str) -> dict[str, Any]:
    """The identity of a device on this machine, in the words of `Device.identity`."""
    kept = {key: value for key, value in device.items() if key not in ("name", "recipes")}
    return kept | {"version": version()} | on_gpu(gpu_name(chip)) | machine()


def peak_mb() -> float:
    """Largest resident size of this process in MB of 10^6 bytes.

    Since its start, or since /proc/self/clear_refs was told to forget it.
    """
    status = Path("/proc/self/status")
    if status.exists():  # the only counter that a child does not inherit from its parent
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return _peak_on_windows()
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6


def _peak_on_windows() -> float:
    """PeakWorkingSetSize of PROCESS_MEMORY_COUNTERS in MB."""
    assert sys.platform == "win32"
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = (
            *((name, wintypes.DWORD) for name in ("size", "faults")),
            *((name, ctypes.c_size_t) for name in ("peak", *(f"other{i}" for i in range(7)))),
        )

    counters, kernel = Counters(), ctypes.WinDLL("kernel32")
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    process = wintypes.HANDLE(kernel.GetCurrentProcess())
    kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), ctypes.sizeof(counters))
    return counters.peak / 1e6


def growth_of(
    run: Callable[[Any], Any],
    shape: list[int],
    before_mb: float,
    peak: Callable[[], float] = peak_mb,
) -> float:
    """Growth in MB after three runs, of this process or of what `peak` tells."""
    x = np.zeros(shape, np.float32)
    for _ in range(3):
        run(x)
    return peak() - before_mb


def energy_of(run: Callable[[Any], Any], shape: list[int], chip: str) -> float:
    """Energy of one run above idle in mJ; 0 where no counter tells."""
    meter, _ = find_meter(chip)
    if meter is None:
        return 0.0
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return energy_mj(lambda: run(x), meter)


def footprint_here(part: Path, index: int) -> tuple[float, float]:
    """Growth in MB of this process, which must be fresh, by one graph of a plan; and its energy."""
    for name in MODULES:  # what they take by themselves is not the model's
        import_module(name)
    plan = json.loads((part / PLAN).read_text(encoding="utf-8"))
    entry, before_mb = plan["graphs"][index], peak_mb()
    graph = Graph(str(part / entry["file"]), plan["device"])
    growth_mb = growth_of(graph.run, entry["shape"], before_mb)
    return growth_mb, energy_of(graph.run, entry["shape"], plan["chip"])


def footprint_there(part: Path, index: int) -> tuple[float, float]:
    """The same in a process of its own; 0 where it does not run, or has no counter."""
    command = [sys.executable, str(Path(__file__).resolve()), str(part.resolve()), str(index)]
    done = subprocess.run(command, capture_output=True, text=True)
    return (0.0, 0.0) if done.returncode else json.loads(done.stdout)


def check_installed() -> None:
    """End in one line where the runtime is not installed."""
    try:
        version()
    except ModuleNotFoundError:
        sys.exit(f"Error: {PACKAGE} is not installed: {sys.executable} -m pip install {PACKAGE}")


def main(folder: Path) -> None:
    """Measure all sets of a bundle and write a result beside each; finished ones are kept."""
    check_installed()
    plans = sorted(path.parent for path in folder.glob(f"*/{PLAN}"))
    for done, part in enumerate(plans, 1):
        if not (part / RESULT).exists():
            measure_set(part)
        print(f"{done} of {len(plans)} sets", file=sys.stderr)  # noqa: T201 - a script


def measure_set(part: Path) -> None:
    """Measure one set and write its result."""
    plan = json.loads((part / PLAN).read_text(encoding="utf-8"))
    pin(plan["device"])
    answer = {
        "identity": identity(plan["device"], plan["chip"]),
        "sessions": [time_folder(part, Graph, way) for way in plan["ways"]],
        "footprints": [footprint_there(part, i) for i in range(plan["footprints"])],
    }
    temporary = part / f".{RESULT}"
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    temporary.replace(part / RESULT)


if __name__ == "__main__":
    if sys.argv[2:]:
        print(json.dumps(footprint_here(Path(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201
    elif sys.argv[1:]:
        measure_set(Path(sys.argv[1]))
    else:
        main(Path(__file__).parent)
