"""Taking a sweep: all variants of a model timed in turn on this machine, within a budget.

Each variant is compiled once and stays, a round runs each of them in an order of its own, and what
slows a whole round is divided out. Memory is that of a fresh process for each. Settings that were
faster are then put together, and timed in turn with what was given once more.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...spaces import Candidate
from ...spaces.errors import CostError, first_line
from ..device import Device
from ..graphs.modules import input_shape
from ..measure.footprint import footprint
from ..runtime_spec import find_runtime
from ..runtimes import open_runtime
from ..runtimes.scratch import scratch
from ..standalone.runner import CLOCKS, REFUSALS, WALL, laid_out
from ..standalone.timing import HEAT_MS, LOOP_MS, Stopwatch, common_factors, stopwatch
from .sweep import Point, Sweep, faster
from .variants import (
    BATCH,
    SIZE,
    THREADS,
    Variant,
    axes_of,
    check_axes,
    variants,
    with_value,
)

Encode = Callable[[Device, Candidate], bytes]
BUDGET_S = 45.0
LEAST_ROUNDS, MOST_ROUNDS = 5, 40
LONGEST = 1 / 60  # of the budget, that one run may take
# Of the budget, at most for making variants; of what is left then, for memory and for the
# settings together.
MAKING_SHARE, MEMORY_SHARE, TUNED_SHARE = 0.5, 0.35, 0.2
ROOM = 0.5  # share of the free memory that all variants may take
MOST_LOOPS = 50


@dataclass
class _Live:
    """A variant that is ready to run."""

    variant: Variant
    clock: str
    watch: Stopwatch
    level_ms: float
    content: bytes
    grown_mb: float


def take_sweep(
    device: Device,
    candidate: Candidate,
    encode: Encode,
    over: Sequence[str] = (),
    budget_s: float = BUDGET_S,
    progress: Callable[[float, str], None] = lambda share, words: None,
) -> Sweep:
    """Time a model under other sizes, batches, threads and options.

    Args:
        device: whose runtime runs it here.
        candidate: whose network it is.
        encode: gives its file, as the runtime of a device reads it.
        over: names of `axes_of`; all by default.
        budget_s: wall time, of which some more is taken where five rounds do not fit in.
        progress: is told the share that is done, and what is being done.

    Raises:
        UnknownNameError: no such axis of the device.
        CostError: the runtime refuses the model as given.
        MissingRuntimeError: it is not installed here.
    """
    check_axes(device, over)
    names = [name for name in axes_of(device) if not over or name in over]
    given, bench = Variant("", "", device, candidate), _Bench(encode, budget_s)
    open_runtime(device)
    base = bench.opened(given, device.clock)
    if isinstance(base, str):
        raise CostError(base)
    live, refused, ended = [base], list[Point](), dict[str, str]()
    for done, name in enumerate(names):
        progress(0.3 * done / len(names), f"making variants of {name}")
        listed, clock = variants(device, candidate, name), device.clock
        if name == THREADS:  # which are timed from outside, with the number that was given
            listed, clock = [replace(given, over=name, value=device.threads), *listed], WALL
        for variant in listed:
            if why := bench.too_much(variant, live):
                ended[name] = why
                break
            one = bench.opened(variant, clock)
            if isinstance(one, str):
                refused.append(Point(name, variant.value, variant.device.batch, refused=one))
                if name == BATCH:
                    ended[name] = f"{variant.value}: {one}"
                    break
            else:
                live.append(one)
    left_s = bench.left_s * (1 - MEMORY_SHARE - TUNED_SHARE)
    samples = bench.rounds(live, left_s, lambda x: progress(0.3 + 0.35 * x, "timing"))
    points = _points(live, samples)
    end = time.perf_counter() + bench.left_s * MEMORY_SHARE / (MEMORY_SHARE + TUNED_SHARE)
    for i in _by_memory(live):
        if time.perf_counter() > end and i:
            break
        progress(0.65 + 0.2 * i / len(live), "memory in processes of their own")
        points[i] = replace(points[i], memory_mb=bench.memory_mb(live[i]))
    side = candidate.architecture.input_size
    sweep = Sweep(device, len(samples), [*points, *refused], device, ended=ended, side=side)
    progress(0.85, "the faster settings together")
    return _tuned(sweep, bench, base)


def _tuned(sweep: Sweep, bench: _Bench, base: _Live) -> Sweep:
    """The sweep with the settings that were faster, if together they are, too."""
    device = sweep.device
    for name in axes_of(device):
        tried = [] if name in (SIZE, BATCH) else sweep.of(name)
        found = faster(sweep.base_of(name), tried)
        device = with_value(device, name, found.value) if found else device
    if device == sweep.device:
        return sweep
    clock = base.clock if device.clock == base.clock else WALL
    tuned = Variant("tuned", "", device, base.variant.candidate)
    both = [x for v in (base.variant, tuned) if not isinstance(x := bench.opened(v, clock), str)]
    if len(both) < 2:
        return sweep
    before, after = _points(both, bench.rounds(both, bench.left_s))
    if faster(before, [after]) is None:
        return sweep
    return replace(sweep, tuned=device, tuned_point=after, kept_ms=before.latency_ms)


class _Bench:
    """Makes variants ready and times them."""

    def __init__(self, encode: Encode, budget_s: float) -> None:
        self._encode, self._budget_s = encode, budget_s
        self._end = time.perf_counter() + budget_s
        self._files: dict[tuple[str, int], bytes] = {}

    @property
    def left_s(self) -> float:
        """Wall time that is left."""
        return max(self._end - time.perf_counter(), 0.0)

    def opened(self, variant: Variant, clock: str) -> _Live | str:
        """A variant ready to run, or why it does not run."""
        device, candidate = variant.device, variant.candidate
        before_mb, asked = resident_mb(), (candidate.key, device.batch)
        try:
            content = self._files.get(asked) or self._encode(device, candidate)
            graph = open_runtime(device).compile(content)
            shape = input_shape(candidate, device.batch)
            x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            last = find_runtime(device.runtime).channels_last
            watch = stopwatch(graph, laid_out(x, last), CLOCKS[clock])
            level_ms = min(watch(2, 1, 1))
        except (*REFUSALS, MemoryError) as error:
            return first_line(error)
        self._files.setdefault(asked, content)
        return _Live(variant, clock, watch, max(level_ms, 1e-3), content, resident_mb() - before_mb)

    def too_much(self, variant: Variant, live: Sequence[_Live]) -> str:
        """Why a variant is not tried: no time, or no memory; empty where it is.

        The first of an axis is, however little time is left.
        """
        before = next((x for x in reversed(live) if x.variant.over == variant.over), live[0])
        if before is not live[0] and self.left_s < (1 - MAKING_SHARE) * self._budget_s:
            return f"{variant.value} and more: no time left of {self._budget_s:.0f} s: --budget-s"
        factor = variant.device.batch / before.variant.device.batch
        ms, mb = factor * before.level_ms, factor * before.grown_mb
        if before is not live[0] and ms > (most_ms := self._budget_s * LONGEST * 1e3):
            return (
                f"{variant.value} would take about {ms:.0f} ms a run, of which {most_ms:.0f} fit "
                f"into {self._budget_s:.0f} s: --budget-s"
            )
        free_mb = available_mb()
        if free_mb is not None and mb > ROOM * free_mb:
            return f"{variant.value} would take about {mb:.0f} MB, and {free_mb:.0f} MB are free"
        return ""

    def rounds(
        self,
        live: Sequence[_Live],
        budget_s: float,
        report: Callable[[float], None] = lambda share: None,
    ) -> NDArray[np.float64]:
        """(rounds, variants) ms of a run, without what slowed a whole round."""
        rng, start = random.Random(0), time.perf_counter()
        loops = [min(max(round(LOOP_MS / x.level_ms), 1), MOST_LOOPS) for x in live]
        heats = [min(max(round(HEAT_MS / x.level_ms), 1), MOST_LOOPS) for x in live]
        samples: list[list[float]] = []
        spent = 0.0
        while len(samples) < LEAST_ROUNDS or (len(samples) < MOST_ROUNDS and spent < budget_s):
            row = [0.0] * len(live)
            for i in rng.sample(range(len(live)), len(live)):
                (row[i],) = live[i].watch(1, loops[i], heats[i])
            samples.append(row)
            spent = time.perf_counter() - start
            report(min(max(spent / budget_s, len(samples) / MOST_ROUNDS) if budget_s else 1, 1))
        raw = np.array(samples)
        return raw / common_factors(raw)[:, None]

    def memory_mb(self, one: _Live) -> float | None:
        """Growth of a fresh process by a variant; None where it does not run there."""
        device = one.variant.device
        with scratch() as folder:
            path = folder / f"model.{find_runtime(device.runtime).format}"
            path.write_bytes(one.content)
            try:
                return footprint(device, str(path)).growth_mb
            except CostError:
                return None


def _points(live: Sequence[_Live], samples: NDArray[np.float64]) -> list[Point]:
    ends = np.percentile(samples, [50, 10, 90], axis=0).T.tolist()
    return [
        Point(x.variant.over, x.variant.value, x.variant.device.batch, x.clock, *times)
        for x, times in zip(live, ends, strict=True)
    ]


def _by_memory(live: Sequence[_Live]) -> list[int]:
    """Variants in the order in which their memory is of interest."""
    last = (THREADS, SIZE)
    return sorted(range(len(live)), key=lambda i: (live[i].variant.over in last, i))


def resident_mb() -> float:
    """Memory of this process in MB of 10^6 bytes; 0 where the system does not say."""
    return _kilobytes("/proc/self/status", "VmRSS") * 1024 / 1e6


def available_mb() -> float | None:
    """Free memory of this machine in MB; None where the system does not say."""
    return _kilobytes("/proc/meminfo", "MemAvailable") * 1024 / 1e6 or None


def _kilobytes(path: str, name: str) -> int:
    if not Path(path).exists():
        return 0
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next((int(x.split()[1]) for x in lines if x.startswith(f"{name}:")), 0)
