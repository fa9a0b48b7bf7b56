"""By device: names of what a run for several devices has of each, such as latency_ms@cpu-1t.

A run for one device has plain names. Seen on one of several devices, a run has them, too, so that
nothing but what looks at all of them together knows that there are several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ...spaces.errors import did_you_mean
from .objectives import METRICS, Objective

AT = "@"
DEVICE_COSTS = ("latency_ms", "energy_mj", "peak_memory_mb", "size_mb")  # that devices differ in

V = TypeVar("V")


def at(name: str, device: str) -> str:
    """Name of what one of several devices has; the plain one of the only device, whose name is "".

    >>> at("latency_ms", "cpu-1t"), at("latency_ms", "")
    ('latency_ms@cpu-1t', 'latency_ms')
    """
    return f"{name}{AT}{device}" if device else name


def on_device(values: Mapping[str, V], device: str) -> dict[str, V]:
    """Values as a run for this device alone names them, without those of other devices.

    The values themselves with "", which stands for all devices.

    >>> on_device({"macs": 5, "latency_ms@a": 1, "latency_ms@b": 2}, "b")
    {'macs': 5, 'latency_ms': 2}
    """
    if not device:
        return dict(values)
    parts = ((*name.partition(AT), value) for name, value in values.items())
    return {name: value for name, _, where, value in parts if where in ("", device)}


def objectives_on(objectives: Sequence[Objective], device: str) -> list[Objective]:
    """Objectives that are about a device or about all, by their plain names."""
    named = on_device({o.name: o for o in objectives}, device)
    return [replace(o, name=name) for name, o in named.items()]


def check_metric(name: str) -> None:
    """Check the name of a metric, perhaps on a device.

    Raises:
        ValueError: there is no such metric, or it is the same on all devices.
    """
    metric, sign, _ = name.partition(AT)
    if metric not in METRICS:
        raise ValueError(f"no such metric {metric!r}. {did_you_mean(metric, METRICS)}")
    if sign and metric not in DEVICE_COSTS:
        raise ValueError(f"{metric} is the same on every device, so it is {metric}, not {name}")


def on_each(names: Iterable[str], devices: Sequence[str]) -> dict[str, str]:
    """Names of metrics with their devices, each with the name that was given.

    A cost without a device is meant on each of them. What is given for a device comes after it,
    whatever the order, so that it counts.

    >>> on_each(["latency_ms@a", "accuracy", "latency_ms"], ["a", "b"])
    {'latency_ms@a': 'latency_ms@a', 'accuracy': 'accuracy', 'latency_ms@b': 'latency_ms'}
    >>> on_each(["accuracy", "latency_ms@a"], ["a"])
    {'accuracy': 'accuracy', 'latency_ms': 'latency_ms@a'}

    Args:
        names: of metrics.
        devices: of the run.

    Raises:
        ValueError: one is of another device.
    """
    several, named = len(devices) > 1, dict[str, str]()
    for name in names:
        metric, sign, device = name.partition(AT)
        if sign and device not in devices:
            raise ValueError(
                f"{name}: the run is for no such device {device!r}. {did_you_mean(device, devices)}"
            )
        shared = metric in DEVICE_COSTS and not sign
        for where in devices if several and shared else [device if several else ""]:
            full = at(metric, where)
            if full not in named or not shared:
                named[full] = name
    return named
