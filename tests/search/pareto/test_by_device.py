"""Costs of several devices by name, and a run for several as each of them has it."""

import pytest

from vitpareto.search.config import load_config
from vitpareto.search.pareto.by_device import on_device, on_each
from vitpareto.search.pareto.objectives import Objective
from vitpareto.spaces import ConfigError

BOTH = "device=[cpu-1t, cpu-2t]"
BAD = [
    (["device=[cpu-1t, cpu-1t]"], "device: cpu-1t is there twice"),
    (["device=[]"], "device: need at least one device"),
    (["device=[cpu-1t, {nam: x}]"], "unknown key 'device.1.nam'. Did you mean 'name'?"),
    (["device=[cpu-1t, {name: x, calibrate_s: 0}]"], "device.1.calibrate_s: .*greater than 0"),
    ([BOTH, "device.calibrate_s=3"], "there are several devices: give them anew"),
    (
        [BOTH, "search.objectives=[accuracy, latency_ms@cpu-3t]"],
        "search: latency_ms@cpu-3t: the run is for no such device 'cpu-3t'. Did you mean 'cpu-2t'?",
    ),
    (["search.limits={latency_ms@phone: 1}"], "no such device 'phone'. Known: cpu-1t"),
    ([BOTH, "search.limits={macs@cpu-1t: 1}"], "macs is the same on every device"),
    ([BOTH, "search.limits={latncy_ms@cpu-1t: 1}"], "no such metric 'latncy_ms'"),
    ([BOTH, "search.limits={latency_ms@cpu-1t: -1}"], "limit of latency_ms@cpu-1t must be above 0"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=[message for _, message in BAD])
def test_one_line_for_each_mistake(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config("digits", overrides)
    assert "\n" not in str(caught.value)


def test_a_cost_without_a_device_is_meant_on_each() -> None:
    limits = "search.limits={latency_ms@cpu-1t: 2, latency_ms: 3, macs: 9}"
    config = load_config("digits", [BOTH, limits])
    costs = ("latency_ms@cpu-1t", "latency_ms@cpu-2t", "size_mb@cpu-1t", "size_mb@cpu-2t")
    assert config.search.objectives == ("accuracy", *costs)
    # What is given for one device counts more than what is meant on each, whatever their order.
    assert config.search.limits == {"latency_ms@cpu-1t": 2, "latency_ms@cpu-2t": 3, "macs": 9}
    assert type(config).model_validate(config.model_dump(mode="json")) == config


def test_seen_on_one_device_a_run_is_one_for_it_alone() -> None:
    several = load_config("digits", [BOTH, "search.limits={latency_ms@cpu-1t: 2, macs: 9}"])
    alone = load_config("digits", ["device=[cpu-2t]", "search.limits={macs: 9}"])
    assert several.on("cpu-2t").device == alone.device
    assert several.on("cpu-2t").search == alone.search
    assert several.on("cpu-1t").search.resolve()[1] == Objective("latency_ms", 2)
    assert alone.on("") is alone and list(alone.by_device) == [""]


def test_of_one_device_names_stay_plain() -> None:
    named = load_config("digits", ["search.limits={latency_ms@cpu-1t: 2}"])
    assert named == load_config("digits", ["search.limits={latency_ms: 2}"])
    assert named.to_yaml().count("@") == 0
    assert list(on_each(["latency_ms", "accuracy"], ["a"])) == ["latency_ms", "accuracy"]
    assert on_device({"latency_ms": 1, "macs": 2}, "") == {"latency_ms": 1, "macs": 2}
