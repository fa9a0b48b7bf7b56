"""Energy meter: the energy counters of a machine, where it has any.

Linux shows those of processors under /sys/class/powercap (RAPL: whole packages and their memory),
by default to root alone; NVIDIA's library tells those of its GPUs. There is no third way: nothing
here comes from a rated power.

This file needs nothing but Python: it is copied into bundles.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
PROCESSOR, NVIDIA = "processor", "nvidia"  # chips whose counters are known
# RAPL counts on every millisecond, a GPU every 20 to 100.
IDLE_S, RUN_S = 0.5, 1.0


@dataclass(frozen=True)
class Meter:
    """Counters of energy.

    Attributes:
        source: what counts.
        read: joules so far, of each counter.
        ends: joules at which each begins anew.
    """

    source: str
    read: Callable[[], tuple[float, ...]]
    ends: tuple[float, ...]

    def since(self, before: tuple[float, ...]) -> float:
        """Joules since an earlier reading, of all counters together."""
        pairs = zip(self.read(), before, self.ends, strict=True)
        return sum((j - b) % end if end < inf else max(j - b, 0.0) for j, b, end in pairs)


def find_meter(chip: str, powercap: Path = POWERCAP) -> tuple[Meter | None, str]:
    """The meter of a chip, or why there is none.

    Args:
        chip: `PROCESSOR`, `NVIDIA`, or what has no counter.
        powercap: where Linux shows the counters of processors.
    """
    if chip == PROCESSOR:
        return _rapl(powercap)
    if chip == NVIDIA:
        return _nvml()
    return None, f"no counter of energy is known for {chip}"


def energy_mj(
    run: Callable[[], object],
    meter: Meter,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Energy of one run above idle, in mJ.

    Idle power is read before and after, while nothing is run. The rest is divided by the number
    of runs, as many as fit into a second.

    Args:
        run: what to run.
        meter: that counts.
        clock: in seconds.
        sleep: waits as many.

    Returns:
        The energy; 0 where the counter saw none.
    """

    def idle_watts() -> float:
        before, start = meter.read(), clock()
        sleep(IDLE_S)
        return meter.since(before) / (clock() - start)

    first = idle_watts()
    before, start, runs = meter.read(), clock(), 0
    while clock() - start < RUN_S:
        run()
        runs += 1
    joules, seconds = meter.since(before), clock() - start
    idle = (first + idle_watts()) / 2
    return max(joules - idle * seconds, 0.0) / runs * 1e3


def _rapl(powercap: Path) -> tuple[Meter | None, str]:
    """Packages and their memory; what a package's other zones count is in it already."""
    try:
        names = {zone: _text(zone / "name") for zone in sorted(powercap.glob("intel-rapl:*"))}
        chosen = [z for z, name in names.items() if name == "dram" or name.startswith("package")]
        files = [zone / "energy_uj" for zone in chosen]
        ends = tuple(int(_text(zone / "max_energy_range_uj")) / 1e6 or inf for zone in chosen)
        _joules(files)
    except PermissionError as error:
        return None, f"only root may read {error.filename} (sudo chmod a+r {error.filename})"
    except (OSError, ValueError) as error:
        return None, f"the counters of energy cannot be read: {error}"
    if not files:
        return None, f"this machine shows no counter of energy in {powercap}"
    source = "RAPL " + ", ".join(dict.fromkeys(names[zone] for zone in chosen))
    return Meter(source, lambda: _joules(files), ends), ""


def _nvml() -> tuple[Meter | None, str]:
    """The one GPU, whose counter NVIDIA's library reads since Volta."""
    try:
        nvml: Any = import_module("pynvml")
    except ModuleNotFoundError:
        return None, "the energy of a GPU needs nvidia-ml-py: pip install 'vitpareto[cuda]'"
    try:
        nvml.nvmlInit()
        if (count := nvml.nvmlDeviceGetCount()) > 1:
            return None, f"there are {count} GPUs, and nothing tells which one runs a model"
        gpu = nvml.nvmlDeviceGetHandleByIndex(0)
        nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    except nvml.NVMLError as error:
        return None, f"NVML has no counter of energy here: {error}"

    def read() -> tuple[float, ...]:
        return (nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,)

    return Meter("NVML", read, (inf,)), ""


def _joules(files: list[Path]) -> tuple[float, ...]:
    return tuple(int(_text(file)) / 1e6 for file in files)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()
