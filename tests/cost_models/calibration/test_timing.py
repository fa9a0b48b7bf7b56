"""Timing: what is slow, refused or restless is told, and slow spells are divided out."""

from dataclasses import replace

import numpy as np
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.calibration.validation import complaint
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.standalone.timing import (
    ALONE_MS,
    ALONE_ROUNDS,
    measure_alone,
    measure_beside,
    measure_session,
    stopwatch,
)
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import CostError

pytestmark = pytest.mark.onnx


def test_torch_is_timed_in_this_process(tiny: SearchSpace) -> None:
    bench = Bench(Device("torch", "torch", "cpu", 1, ("float",)))
    rows = bench.time([bench.network(c, {}) for c in tiny.sample(2, 0)], rounds=3)
    assert len(rows) == 2 and all(row.median_ms > 0 for row in rows)
    assert not bench.writes_files
    assert bench.footprint(bench.network(tiny.smallest(), {})).growth_mb > 1


def test_what_takes_too_long_is_no_refusal(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and more graphs have more time."""
    bench = Bench(device)
    for name, most_s in (("SESSION_S", 0.02), ("GRAPH_S", 0.01)):
        monkeypatch.setattr(f"vitpareto.cost_models.measure.bench.{name}", most_s)
    count = 2 + len(bench.anchors)
    words = f"measuring {count} graphs was given up after {0.02 + 0.01 * count:g} s: device 'here'"
    with pytest.raises(CostError, match=words):
        bench.time(bench.anchors[:2], rounds=3)


def test_a_refused_graph_leaves_the_others(tiny: SearchSpace, device: Device) -> None:
    bench = Bench(device)
    good = bench.network(tiny.sample(1, 0)[0], ["float", "dynamic8"])
    broken = type(good)("model", "broken", b"garbage", good.shape, 1, 0)
    assert [row.key for row in bench.time([broken, good], rounds=3)] == [good.key]


class Counting:
    """A graph that takes a known number of ticks of a known clock."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self.clock, self.seconds, self.runs = clock, seconds, 0

    def run(self, x: np.ndarray) -> None:
        self.runs += 1
        slow = 1.3 if self.clock[0] * 1000 % 100 > 40 else 1.0  # the machine is slow at times
        self.clock[0] += self.seconds * slow


def test_what_never_settles_is_kept_and_said() -> None:
    class Erratic(Counting):
        def run(self, x: np.ndarray) -> None:
            self.runs += 1
            self.clock[0] += self.seconds * (1 + (self.runs + 1) // 3 % 2)

    clock = [0.0]
    graphs = [Erratic(clock, 1e-3), Counting(clock, 1e-5)]
    erratic, steady = measure_session(graphs, [np.zeros(1)] * 2, 5, clock=lambda: clock[0]).timings
    assert not erratic.stable and erratic.median_ms > 0
    assert steady.stable
    assert complaint(0, 3, 9) == ""
    assert complaint(2, 4, 9) == (
        "the machine was restless: measurements that never settled: 2, the speed changed by more "
        "than 5% in 4 of 9 sessions; all is kept"
    )


def test_the_protocol_divides_slow_spells_out() -> None:
    clock = [0.0]
    graphs = [Counting(clock, s) for s in np.linspace(1e-5, 2e-3, 12)]
    session = measure_session(graphs, [np.zeros(1)] * 12, 15, clock=lambda: clock[0])
    ratios = [t.median_ms / g.seconds / 1e3 for t, g in zip(session.timings, graphs, strict=True)]
    assert max(ratios) / min(ratios) < 1.31
    assert graphs[0].runs > 10 * graphs[-1].runs
    assert all(len(t.samples_ms) == t.n == 15 for t in session.timings)
    with pytest.raises(ValueError, match="one input a graph"):
        measure_session(graphs, [], 3)


def test_anchors_are_timed_around_a_graph() -> None:
    """A machine that gets slower from run to run: the anchor's time is that of the middle."""

    class Slowing(Counting):
        def run(self, x: np.ndarray) -> None:
            self.clock[0] += self.seconds * (1 + 2 * self.clock[0])

    clock = [0.0]
    graph, anchor = Slowing(clock, 1e-3), Slowing(clock, 2e-4)
    watches = [stopwatch(one, np.zeros(1), lambda: clock[0]) for one in (graph, anchor)]
    timing, (anchor_ms,) = measure_beside(watches[0], watches[1:])
    assert timing.median_ms > 1.1  # by how much everything was slowed
    assert timing.median_ms / anchor_ms == pytest.approx(5.0, rel=0.05)


def test_one_alone_is_the_median_of_its_runs() -> None:
    clock = [0.0]
    graph = Counting(clock, 1e-3)
    found = measure_alone(stopwatch(graph, np.zeros(1), lambda: clock[0]))
    assert 1.0 <= found.p10_ms <= found.median_ms <= found.p90_ms <= 1.31
    assert found.stable and found.n == len(found.samples_ms) == ALONE_ROUNDS
    assert graph.runs > ALONE_MS


def test_when_everything_is_refused_the_reason_is_told(device: Device) -> None:
    bench = Bench(device)
    bench.anchors = [replace(graph, model=b"garbage") for graph in bench.anchors]
    with pytest.raises(CostError, match="the anchors do not run: ONNX Runtime refuses"):
        bench.time(bench.anchors[:1], rounds=3)
