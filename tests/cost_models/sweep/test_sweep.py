"""Sweeps: what is varied is what it says, and settings are kept only where they are faster."""

import math
from dataclasses import replace

import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.sweep.growth import Growth
from vitpareto.cost_models.sweep.sweep import Point, Sweep, faster
from vitpareto.cost_models.sweep.variants import axes_of, check_axes, variants, with_value
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import UnknownNameError

DEVICE = Device.load("cpu-1t")


def point(over: str, value: object, ms: float, spread: float = 0.02, batch: int = 1) -> Point:
    ends = ms * (1 - spread), ms * (1 + spread)
    return Point(over, value, batch, "wall", ms, *ends)


def swept(*points: Point, device: Device = DEVICE) -> Sweep:
    return Sweep(device, 9, [point("", "", 10.0), *points], device)


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    return SearchSpace.from_yaml("deit_tiny").smallest()


def test_one_thing_is_changed_at_a_time(candidate: Candidate) -> None:
    for name in axes_of(DEVICE):
        found = [v for v, _ in zip(variants(DEVICE, candidate, name), range(6), strict=False)]
        assert len({v.value for v in found}) == len(found)
        for v in found:
            changed = with_value(DEVICE, name, v.value) if name != "size" else DEVICE
            assert v.device == changed
            assert (v.candidate == candidate) == (name != "size")
    sizes = [v.value for v in variants(DEVICE, candidate, "size")]
    assert len(sizes) == 5 and sizes == sorted(sizes) and 224 not in sizes
    assert all(
        abs(s / 224 - share) < 0.15
        for s, share in zip(sizes, (0.5, 0.75, 1.25, 1.5, 2), strict=True)
    )


def test_the_usual_value_is_not_written_down() -> None:
    tuned = with_value(DEVICE, "arena", False)
    assert tuned.options == (("arena", False),) and with_value(tuned, "arena", True) == DEVICE
    with pytest.raises(UnknownNameError, match=r"unknown sweep 'bach'. Did you mean 'batch'"):
        check_axes(DEVICE, ["bach"])
    assert "layout" in axes_of(Device.load("torch-1t")) and "layout" not in axes_of(DEVICE)


def test_faster_is_beyond_the_spread() -> None:
    base = point("", "", 10.0)
    assert faster(base, [point("arena", False, 9.0)]).value is False
    assert faster(base, [point("arena", False, 9.0, spread=0.2)]) is None
    assert faster(base, [point("arena", False, 9.9, spread=0.0)]) is None
    assert faster(base, []) is None


def test_exponent_and_best_batch() -> None:
    sizes = [point("size", s, 10.0 * (s / 224) ** 2.5) for s in (112, 168, 280)]
    batches = [point("batch", b, 10.0 * b**0.8, batch=b) for b in (2, 4, 8)]
    found = swept(*sizes, *batches)
    assert found.exponent == pytest.approx(2.5) and swept(*sizes[:2]).exponent is None
    assert replace(swept(*sizes[:2]), side=224).exponent == pytest.approx(2.5)
    assert found.growth is None and replace(found, side=224).growth.side == 224
    assert replace(found, side=224).to_dict()["size_growth"]["side"] == 224
    assert found.best_batch(None).batch == 8 and found.best_batch(31.0).batch == 4
    assert found.best_batch(5.0) is None


def test_growth_tells_a_quadratic_from_an_exponential() -> None:
    """Parts of a known latency, at the side that is asked for."""
    tokens = {side: (side / 224) ** 2 for side in (112, 160, 224, 288, 384)}
    grown = Growth.fit({side: 2 + 20 * n + 5 * n**2 for side, n in tokens.items()}, 224)
    assert (grown.fixed_ms, grown.tokens_ms, grown.pairs_ms) == pytest.approx((2, 20, 5), rel=1e-3)
    assert grown.quadratic_error < 1e-3 < 0.1 < grown.exponential_error
    blown = Growth.fit({side: 3 * math.exp(2 * n) for side, n in tokens.items()}, 224)
    assert blown.exponential_error < 1e-6 < 0.1 < blown.quadratic_error
    flat = Growth.fit(dict.fromkeys(tokens, 7.0), 224)
    assert (flat.fixed_ms, flat.tokens_ms, flat.pairs_ms) == pytest.approx((7, 0, 0), abs=0.01)
    assert Growth.fit({112: 1.0, 168: 2.0, 224: 3.0}, 224) is None


def test_a_setting_that_lost_is_named() -> None:
    """Beyond the spread of both sweeps, and only if it is still the setting."""
    tuned = with_value(DEVICE, "arena", False)
    then = swept(point("arena", False, 8.0)).settings(tuned)
    assert then["arena"]["value"] is False and then["arena"]["ratios"]["True"][0] == 0.8
    now = swept(point("arena", True, 8.0), device=tuned)
    (lost,) = now.slower_than(then)
    assert lost == {"setting": "arena", "value": False, "other": "True", "then": 0.8, "now": 1.25}
    assert not swept(point("arena", True, 12.5), device=tuned).slower_than(then)
    assert not swept(point("arena", False, 8.0)).slower_than(then)
    restless = replace(now, points=[point("", "", 10.0, 0.3), point("arena", True, 8.0, 0.3)])
    assert not restless.slower_than(then)
