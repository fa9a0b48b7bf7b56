"""Devices are listed at once; one of them is measured where it is named."""

import json

from vitpareto.cost_models.device import presets

from ..conftest import invoke


def test_a_list_measures_nothing() -> None:
    told = json.loads(invoke("devices", "--json").stdout)
    assert [device["name"] for device in told["devices"]] == presets()
    assert told["capabilities"] == {}
    lines = invoke("devices").stdout.splitlines()
    assert len([line for line in lines if line.split()[:1] == ["cpu-1t"]]) == 1
    assert not any("speed" in line for line in lines)


def test_an_unknown_one_is_refused() -> None:
    result = invoke("devices", "cpu-1")
    assert "unknown device 'cpu-1'. Did you mean 'cpu-1t'?" in str(result.exception)
