"""Phone: what benchmark programs print on a phone without Python, as results of a kit.

run.sh of a kit runs the runtime's own benchmark program over adb, and saves what it prints, the
phone's properties and its answers below phone/. This file is phone.py of the kit: it makes the same
results of them that run.py would. It needs numpy, on the computer that adb runs on.

Formats: LiteRT's benchmark_model (tensorflow/lite/tools/benchmark), ncnn's benchncnn, MNN's
MNNV2Basic and benchmark.out.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .kit_files import (
    ANSWERS,
    BLOCKS,
    KIT,
    KIT_FORMAT,
    MEASURED,
    MODELS,
    lines,
    parts_of,
    write_results,
)
from .runner import ISA
from .seal import SealError, check_files, read_sealed, sha256
from .timing import ONE_BY_ONE, PLAN, RESULT

PHONE = "phone"  # folder of what was saved
TENTH = 1.2816  # standard deviations from the middle of a normal distribution to its tenth
MIB = 1.048576  # MB


class Printed(NamedTuple):
    """What a benchmark program printed of one graph.

    Attributes:
        median_ms: the median, or the mean where it prints no median.
        p10_ms: tenth percentile, or about that.
        p90_ms: ninetieth percentile, or about that.
        n: runs; 0 where it does not say.
        memory_mb: growth of the process; 0 where it does not say.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    n: int = 0
    memory_mb: float = 0.0


def read_litert(text: str) -> Printed:
    """What benchmark_model prints.

    Its last line with a count is of the timed runs, the one before of the warm-up. Newer ones
    print percentiles in it.

    Raises:
        ValueError: it printed no timing; with the last line that it did print.
    """
    whole = re.findall(r"Inference timings in us:.*Inference \(avg\): ([\d.e+]+)", text)
    if not whole:
        raise _silent(text)
    mean, runs = float(whole[-1]), re.findall(r"^.*\bcount=\d+.*$", text, re.MULTILINE)
    told = dict(re.findall(r"(\w+)=([\d.e+]+)", runs[-1])) if runs else {}
    grown = re.findall(r"Memory footprint delta.*overall=([\d.]+)", text)
    memory_mb = float(grown[-1]) * MIB if grown else 0.0
    middle, spread = float(told.get("median", mean)), float(told.get("std", 0.0)) * TENTH
    low = max(float(told.get("min", 0.0)), middle - spread)
    high = min(float(told.get("max", np.inf)), middle + spread)
    return Printed(middle / 1e3, low / 1e3, high / 1e3, int(told.get("count", 0)), memory_mb)


def read_ncnn(text: str) -> Printed:
    """What benchncnn prints: min, max and avg in ms.

    Raises:
        ValueError: it printed no timing.
    """
    low, high, mean = _last(text, r"min\s*=\s*([\d.]+)\s+max\s*=\s*([\d.]+)\s+avg\s*=\s*([\d.]+)")
    return Printed(mean, low, high)


def read_mnn(text: str) -> Printed:
    """What MNN's benchmark prints: max, min and avg, each with its ms.

    Raises:
        ValueError: it printed no timing.
    """
    number = r"\s*=\s*([\d.]+)\s*ms"
    high, low, mean = _last(text, rf"max{number}\s+min{number}\s+avg{number}")
    return Printed(mean, low, high)


def _last(text: str, pattern: str) -> tuple[float, float, float]:
    """The three numbers of the last line that fits."""
    found = re.findall(pattern, text)
    if not found:
        raise _silent(text)
    first, second, third = map(float, found[-1])
    return first, second, third


def _silent(text: str) -> ValueError:
    last = (text.strip().splitlines() or ["nothing"])[-1]
    return ValueError(f"no timing was printed, but: {last.strip()}")


READERS: Mapping[str, Callable[[str], Printed]] = {
    "litert": read_litert,
    "ncnn": read_ncnn,
    "mnn": read_mnn,
}


def properties(text: str) -> dict[str, str]:
    """What getprop prints: [name]: [value], a line each."""
    return dict(re.findall(r"^\[([^\]]+)\]: \[(.*?)\]\s*$", text, re.MULTILINE))


def phone_identity(device: Mapping[str, Any], saved: Path, binary: Path) -> dict[str, Any]:
    """Identity of a device on a phone, in the words of `Device.identity`.

    The version is that of the benchmark program, which does not print one: the beginning of its
    hash.

    Args:
        device: of the kit.
        saved: folder with getprop.txt and cpuinfo.txt.
        binary: the benchmark program.

    Raises:
        SealError: one of them says nothing.
    """
    told = properties((saved / "getprop.txt").read_text(encoding="utf-8", errors="replace"))
    cpu = (saved / "cpuinfo.txt").read_text(encoding="utf-8", errors="replace")
    if not (name := told.get("ro.product.model")):
        raise SealError(f"{saved / 'getprop.txt'}: names no phone: adb shell getprop failed")
    chip = told.get("ro.soc.model") or told.get("ro.hardware") or told.get("ro.board.platform")
    flags = re.search(r"^(?:Features|flags)\s*:(.*)$", cpu, re.MULTILINE)
    has = flags.group(1).split() if flags else []
    kept = {key: value for key, value in device.items() if key not in ("name", "recipes")}
    return kept | {
        "version": f"{binary.name} {sha256(binary)[:12]}",
        "processor": f"{name} ({chip})" if chip else name,
        "isa": " ".join(flag for flag in ISA if flag in has),
        "cores": len(re.findall(r"^processor\s*:", cpu, re.MULTILINE)),
        "system": f"Android {told.get('ro.build.version.release', '?')} "
        f"{told.get('ro.product.cpu.abi', '')}".strip(),
    }


def read_phone(folder: Path, binary: Path) -> None:
    """Make measured.json of what run.sh saved in a kit.

    Raises:
        SealError: the kit was edited, or something that identifies the phone is missing.
    """
    kit = read_sealed(folder / KIT, KIT_FORMAT)
    check_files(folder, kit["files"])
    saved = folder / PHONE
    for path in (saved / "getprop.txt", saved / "cpuinfo.txt", binary):
        if not path.is_file():
            raise SealError(f"{path}: missing; run.sh saves it")
    machine = phone_identity(kit["device"], saved, binary)
    for part in [*parts_of(folder, MODELS), *parts_of(folder, BLOCKS)]:
        answer = _results_of(folder, part, kit["device"]["runtime"])
        if answer is not None:
            text = json.dumps({"identity": machine, **answer})
            (part / RESULT).write_text(text, encoding="utf-8")
    for key, about in kit["models"].items():
        _keep_answers(folder, key, about)
    write_results(folder, kit, machine, {binary.name: machine["version"]}, {})


def _results_of(folder: Path, part: Path, runtime: str) -> dict[str, Any] | None:
    """What `runner.measure_set` would write of a set; None where nothing of it was run."""
    graphs = json.loads((part / PLAN).read_text(encoding="utf-8"))
    name = "-".join(part.relative_to(folder).parts)
    outputs = [folder / PHONE / f"{name}-{i}.txt" for i in range(len(graphs["graphs"]))]
    if not any(path.exists() for path in outputs):
        return None
    read = [_read(path, READERS[runtime]) for path in outputs]
    anchors = read[len(read) - graphs["anchors"] :]
    anchors_ms = [one.median_ms for one in anchors if isinstance(one, Printed)]
    answers = [_answer(one, anchors_ms) for one in read]
    memory = [one.memory_mb if isinstance(one, Printed) else 0.0 for one in read]
    newest = max(path.stat().st_mtime for path in outputs if path.exists())
    session = {
        "way": ONE_BY_ONE,
        "drift": 0.0,
        "factors": [],
        "unix_time": int(newest),
        "graphs": answers,
    }
    footprints = [[mb, 0.0] for mb in memory[: graphs["footprints"]]]
    return {"sessions": [session], "footprints": footprints}


def _read(path: Path, reader: Callable[[str], Printed]) -> Printed | str:
    """What was printed, or why there is nothing."""
    if not path.exists():
        return f"{path.name} is missing"
    try:
        return reader(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        return str(error)


def _answer(one: Printed | str, anchors_ms: list[float]) -> dict[str, Any]:
    if isinstance(one, str):
        return {"refused": one}
    return {
        "median_ms": one.median_ms,
        "p10_ms": one.p10_ms,
        "p90_ms": one.p90_ms,
        "n": one.n,
        "stable": True,
        "anchors_ms": anchors_ms,
        "samples_ms": [one.median_ms],
    }


def _keep_answers(folder: Path, key: str, about: dict[str, Any]) -> None:
    """Write a model's answers, as far as its program saved them one after the other."""
    expected = np.load(folder / about["expected"])
    runs: list[Any] = []
    for index in range(len(expected)):
        path = folder / PHONE / "answers" / f"{key}-{index}.bin"
        values = np.fromfile(path, np.float32) if path.exists() else np.zeros(0)
        if not values.size or values.size % expected.shape[1]:
            break
        runs.append(values.reshape(-1, expected.shape[1]))
    if runs:
        (folder / ANSWERS).mkdir(exist_ok=True)
        np.save(folder / ANSWERS / f"{key}.npy", np.concatenate(runs)[: len(expected)])


def main() -> None:
    """Read what was saved in the folder of a kit; the argument is the benchmark program."""
    folder = Path(__file__).resolve().parent
    if len(sys.argv) != 2:
        sys.exit("Usage: python3 phone.py BENCHMARK_PROGRAM")
    try:
        read_phone(folder, Path(sys.argv[1]))
    except SealError as error:
        sys.exit(f"Error: {error}")
    for line in [*lines(folder), f"Written: {folder / MEASURED}. Bring this folder back."]:
        print(line, file=sys.stderr)  # noqa: T201 - a script


if __name__ == "__main__":
    main()
