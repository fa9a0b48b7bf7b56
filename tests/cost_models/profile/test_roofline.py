"""Roofline: what bounds a block is arithmetic on its operations and on the machine's peaks."""

import numpy as np
import pytest

from vitpareto.cost_models.profile.kernel_times import taken_off
from vitpareto.cost_models.profile.roofline import (
    SIDE,
    Bound,
    MachinePeaks,
    Stream,
    bound_of,
    product_gflops,
    stream_gb_per_s,
)
from vitpareto.spaces import ops

MACHINE = MachinePeaks({"float": 100.0, "static8": 400.0}, {1000: 50.0, 10**6: 10.0})


def test_operations_have_bounds_of_their_own() -> None:
    """A product that multiplies longer than it moves, and a sum that only moves."""
    linear, add = ops.linear(64, 64, 64, bias=False), ops.elementwise(64 * 64, 2)
    stored = 4 * 64 * 64
    bound = bound_of([linear, add], stored, "float", 1, MACHINE)
    assert bound.compute_ms == pytest.approx(2 * 64**3 / 100e6)
    assert bound.memory_ms == pytest.approx(4 * 3 * 64 * 64 / 10e6)
    twice = bound_of([linear, add], stored, "float", 2, MACHINE)
    assert twice.compute_ms == pytest.approx(2 * bound.compute_ms)
    # Four times as fast, it moves its bytes longer than it multiplies.
    rounded = bound_of([linear], stored // 4, "static8", 1, MACHINE)
    assert rounded.compute_ms == 0
    assert rounded.memory_ms == pytest.approx((4 * 2 * 64 * 64 + stored // 4) / 10e6)


def test_few_bytes_are_as_fast_as_the_caches() -> None:
    assert [MACHINE.stream(n) for n in (1, 1000, 1001, 10**9)] == [50.0, 50.0, 10.0, 10.0]


def test_what_takes_most_is_the_bound() -> None:
    assert Bound(0.6, 0.0).name(1.0) == "compute"
    assert Bound(0.1, 0.5).name(1.0) == "memory"
    assert Bound(0.2, 0.2).name(1.0) == "overhead"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_stream_adds_all_of_it(threads: int) -> None:
    stream = Stream(12 * 1001, threads)
    stream.run(np.zeros(1))
    sums = np.concatenate([part[2] for part in stream._parts])
    assert len(sums) == 1001 and (sums == 3).all()
    assert stream_gb_per_s(12 * 1001, 2.0) == pytest.approx(12 * 1001 / 2e6)


def test_rates_are_of_multiplications_and_additions() -> None:
    assert product_gflops(1.0) == pytest.approx(2 * SIDE**3 / 1e6)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_taken_off_leaves_the_total(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = rng.exponential(size=30)
    total = rng.uniform(0.1, 1.0) * times.sum()
    assert np.maximum(times - taken_off(times, total), 0).sum() == pytest.approx(total)
    assert taken_off(times, 2 * times.sum()) == 0
