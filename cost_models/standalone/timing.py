"""Timing: the timing protocol, for a machine that is never quite quiet.

All graphs of a set are timed in turn, in an order that is shuffled anew for every round, so that
whatever slows the machine for a while slows all of them: each round's common factor is divided
out. A graph's own level is then the median over rounds. Tiny graphs run in loops, and every
sample comes after runs that are not timed: what is measured is a model that runs again and again.

This file needs numpy only and nothing of this package: it is copied into bundles.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What ran before has filled the caches, and a model that serves runs again and again: samples
# of 0.5 ms after one run read 11-13% above those of 10 ms, of 3 ms after five runs 1% below. On
# a busy host caches fill slowly: 5 ms before a sample in place of 1.5 left whole networks a spread
# of 3.1% between sessions in place of 4.5%, and as fast as when they run by themselves.
HEAT_MS, HEAT_RUNS = 1.5, 3  # before a sample, not timed: this long and this often
NETWORK_HEAT_MS = 5.0  # of whole networks
LOOP_MS, LOOP_RUNS = 2.5, 3  # a sample: this long and this many runs
MOST_LOOPS = 100  # of either, whatever a clock says that has just been slow to tick
ALARM = 0.05  # spread of the common factor beyond which numbers are doubtful
STABLE = 0.05  # two successive warm-up levels this close end the warm-up
MAX_WARM_UP = 12
# (readings, runs of each, runs before that are not timed) -> ms of a run, of each reading.
Stopwatch = Callable[[int, int, int], list[float]]
IN_TURN, ONE_BY_ONE = "in turn", "one by one"  # the two ways
PLAN, RESULT = "plan.json", "result.json"  # of a set of graphs: what to time, and what came of it
ALONE_MS, FEWEST_RUNS, MOST_RUNS = 60.0, 32, 200  # of one by one: timed runs of a graph
ALONE_ROUNDS = 8  # into which they are divided, to see how steady they are


@dataclass(frozen=True)
class Timing:
    """Latency of one graph with its spread.

    Attributes:
        median_ms: median over rounds, after each round's common factor was divided out.
        p10_ms: tenth percentile of the same.
        p90_ms: ninetieth percentile of the same.
        n: rounds.
        stable: whether the warm-up settled.
        samples_ms: the raw means of each round, nothing divided out.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    n: int
    stable: bool
    samples_ms: tuple[float, ...]


@dataclass(frozen=True)
class Session:
    """One set of graphs, timed together.

    Attributes:
        timings: one for each graph, in the order given.
        factors: each round's common factor; 1.0 is the median round.
    """

    timings: list[Timing]
    factors: NDArray[np.float64]

    @property
    def drift(self) -> float:
        """Spread of the common factor, 10th to 90th percentile, relative."""
        low, high = np.percentile(self.factors, [10, 90])
        return float(high / low - 1)

    @property
    def alarm(self) -> bool:
        """Whether the machine changed its speed too much for the numbers to be trusted."""
        return self.drift > ALARM


def stopwatch(graph: Any, x: NDArray[np.float32], clock: Callable[[], float]) -> Stopwatch:
    """What times runs of a graph.

    One that runs in another process is timed there, by its own `stopwatch`: on the way to it and
    back more time passes than it takes.

    Args:
        graph: has a `run`, perhaps a `stopwatch`.
        x: what it is given.
        clock: in seconds.
    """
    own: Callable[[NDArray[np.float32]], Stopwatch] | None = getattr(graph, "stopwatch", None)
    if own:
        return own(x)
    run: Callable[[NDArray[np.float32]], Any] = graph.run

    def times(readings: int, runs: int, before: int) -> list[float]:
        for _ in range(before):
            run(x)
        taken: list[float] = []
        for _ in range(readings):
            start = clock()
            for _ in range(runs):
                run(x)
            taken.append((clock() - start) / runs * 1e3)
        return taken

    return times


def measure_session(
    compiled: Sequence[Any],
    inputs: Sequence[NDArray[np.float32]],
    rounds: int = 15,
    budget_s: float = float("inf"),
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    heat_ms: float = HEAT_MS,
) -> Session:
    """Time graphs against each other.

    Args:
        compiled: what to time, see `stopwatch`.
        inputs: what each is given.
        rounds: samples of each, at least 3.
        budget_s: no new round is begun after this time, once there are 3.
        seed: of the order.
        clock: in seconds.
        heat_ms: for how long a graph runs before a sample.

    Raises:
        ValueError: nothing to time, or not one input for each.
    """
    if not compiled or len(compiled) != len(inputs):
        raise ValueError(f"need one input a graph, got {len(inputs)} for {len(compiled)}")
    end = clock() + budget_s
    rng = random.Random(seed)
    watches = [stopwatch(graph, x, clock) for graph, x in zip(compiled, inputs, strict=True)]
    warm = [_warm_up(watch) for watch in watches]
    levels = [max(level, 1e-6) for level, _ in warm]
    heats = [min(max(HEAT_RUNS, round(heat_ms / level)), MOST_LOOPS) for level in levels]
    loops = [min(max(LOOP_RUNS, round(LOOP_MS / level)), MOST_LOOPS) for level in levels]
    samples: list[list[float]] = []
    while len(samples) < max(rounds, 3) and (len(samples) < 3 or clock() < end):
        row = [0.0] * len(watches)
        for index in rng.sample(range(len(watches)), len(watches)):
            (row[index],) = watches[index](1, loops[index], heats[index])
        samples.append(row)
    return session_of(np.array(samples), [stable for _, stable in warm])


def session_of(samples: NDArray[np.float64], stable: Sequence[bool]) -> Session:
    """What samples of graphs in turn say of each.

    Args:
        samples: in ms, (rounds, graphs).
        stable: whether the warm-up of each settled.
    """
    factors = common_factors(samples)
    p10, p50, p90 = np.percentile(samples / factors[:, None], [10, 50, 90], axis=0)
    timings = [
        Timing(float(p50[i]), float(p10[i]), float(p90[i]), len(raw), stable[i], tuple(raw))
        for i, raw in enumerate(samples.T.tolist())
    ]
    return Session(timings, factors)


def answer_of(timing: Timing, anchors_ms: list[float]) -> dict[str, Any]:
    """Answer of a session about one graph."""
    return {
        "median_ms": timing.median_ms,
        "p10_ms": timing.p10_ms,
        "p90_ms": timing.p90_ms,
        "n": timing.n,
        "stable": timing.stable,
        "anchors_ms": anchors_ms,
        "samples_ms": [round(sample, 6) for sample in timing.samples_ms],
    }


def measure_alone(watch: Stopwatch) -> Timing:
    """Time one graph by itself: warm it up, time many runs, take the median of the runs."""
    level, stable = _warm_up(watch)
    count = min(max(FEWEST_RUNS, round(ALONE_MS / max(level, 1e-6))), MOST_RUNS)
    runs = watch(count, 1, count // 3)
    rounds = [float(np.median(part)) for part in np.array_split(runs, ALONE_ROUNDS)]
    p10, p90 = (float(value) for value in np.percentile(rounds, [10, 90]))
    return Timing(float(np.median(runs)), p10, p90, len(rounds), stable, tuple(rounds))


def measure_beside(watch: Stopwatch, anchors: Sequence[Stopwatch]) -> tuple[Timing, list[float]]:
    """Time one graph by itself, and anchors before and after it.

    Returns:
        Its timing, and what each anchor took in ms.
    """
    before = [_level(anchor) for anchor in anchors]
    timing = measure_alone(watch)
    after = [_level(anchor) for anchor in anchors]
    return timing, [float(np.sqrt(a * b)) for a, b in zip(before, after, strict=True)]


def common_factors(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each round's speed relative to the median round, by median polish (Tukey 1977).

    Args:
        samples: (rounds, graphs).
    """
    if samples.shape[1] < 5:  # too few to tell a slow round from a slow graph
        return np.ones(len(samples))
    logs = np.log(samples)
    factors = np.zeros(len(samples))
    for _ in range(3):
        level = np.median(logs - factors[:, None], axis=0)
        factors = np.median(logs - level, axis=1)
        factors -= np.median(factors)
    return np.exp(factors)


def _warm_up(watch: Stopwatch) -> tuple[float, bool]:
    """Run until two successive levels agree: the level in ms, and whether they did."""
    last = float("inf")
    for turn in range(MAX_WARM_UP):
        level = sorted(watch(3, 1, 0 if turn else 1))[1]
        if abs(level - last) < STABLE * level:
            return max(level, last), True
        last = level
    return last, False


def _level(watch: Stopwatch) -> float:
    """Time in ms of something small that ran a moment ago."""
    least = HEAT_RUNS + LOOP_RUNS
    times = watch(least, 1, 0)
    while sum(times) < HEAT_MS + LOOP_MS and len(times) < MOST_LOOPS:
        missing = (HEAT_MS + LOOP_MS - sum(times)) / max(min(times), 1e-6)
        times += watch(min(int(missing) + 1, MOST_LOOPS - len(times)), 1, 0)
    return float(np.median(times[len(times) // 3 :]))
