"""Variants: one model on one device with one thing changed at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...spaces import Candidate
from ...spaces.errors import SpaceError, UnknownNameError
from ..device import Device
from ..runtime_spec import Option, find_runtime

Value = bool | int | str
SIZE, BATCH, THREADS = "size", "batch", "threads"
SHARES = (0.5, 0.75, 1.25, 1.5, 2.0)  # of the input size
MOST_BATCH = 1024
NEAR = 0.15  # share of the side by which a size may differ from the one that is looked for


@dataclass(frozen=True)
class Variant:
    """A model and a device, and in what they differ from those that were given.

    Attributes:
        over: what is changed; empty for nothing.
        value: what it is changed to.
        device: with it.
        candidate: with it.
    """

    over: str
    value: Value
    device: Device
    candidate: Candidate


def axes_of(device: Device) -> list[str]:
    """Everything that can be swept over on a device."""
    return [THREADS, *options_of(device), BATCH, SIZE]


def check_axes(device: Device, names: Sequence[str]) -> None:
    """Check names of axes.

    Raises:
        UnknownNameError: the device has no such.
    """
    for name in names:
        if name not in (known := axes_of(device)):
            raise UnknownNameError("sweep", name, known)


def options_of(device: Device) -> Mapping[str, Option]:
    """Options of a device's runtime of which several values can be tried."""
    return {
        name: option
        for name, option in find_runtime(device.runtime).options.items()
        if option.tried and (not option.providers or device.provider in option.providers)
    }


def value_of(device: Device, name: str) -> Value:
    """Value of an axis that a device has, given or by itself."""
    if name in (BATCH, THREADS):
        return int(getattr(device, name))
    return dict(device.options).get(name, options_of(device)[name].tried[0])


def with_value(device: Device, name: str, value: Value) -> Device:
    """A device with another value; what its runtime does by itself is not written down."""
    if name in (BATCH, THREADS):
        return replace(device, **{name: value})
    others = [(n, v) for n, v in device.options if n != name]
    given = [(name, value)] if value != options_of(device)[name].tried[0] else []
    return replace(device, options=tuple(sorted([*others, *given])))


def variants(device: Device, candidate: Candidate, name: str) -> Iterator[Variant]:
    """Variants over one axis, beside what is given; batches one after the other, without end."""
    if name == SIZE:
        for other in resized(candidate):
            yield Variant(SIZE, other.architecture.input_size, device, other)
        return
    if name == BATCH:
        values: list[Value] = [2**i for i in range(MOST_BATCH.bit_length())]
    elif name == THREADS:
        cores = os.cpu_count() or 1
        values = [*sorted({1, *(2**i for i in range(1, cores.bit_length())), cores})]
        values = [count for count in values if int(count) <= cores]
    else:
        values = [*options_of(device)[name].tried]
    for value in values:
        if value != value_of(device, name):
            yield Variant(name, value, with_value(device, name, value), candidate)


def resized(candidate: Candidate) -> list[Candidate]:
    """The same network for images of other sizes, near those that are looked for."""
    own = candidate.architecture.input_size
    found: dict[int, Candidate] = {}
    for share in SHARES:
        wanted = share * own
        sizes = sorted(range(1, 3 * own), key=lambda size: abs(size - wanted))
        near = (size for size in sizes if abs(size - wanted) <= NEAR * wanted and size != own)
        for size in near:
            try:
                architecture = replace(candidate.architecture, input_size=size)
                plain = replace(candidate, architecture=architecture).to_dict()
                found.setdefault(size, Candidate.from_dict(plain))
            except SpaceError:
                continue
            break
    return [found[size] for size in sorted(found)]
