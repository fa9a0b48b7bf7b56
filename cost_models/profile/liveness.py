"""Liveness: memory that the activations of a graph need, planned before it runs.

A value lives from the kernel that makes it to the last one that reads it; values that do not live
at the same time can share bytes. How many bytes that takes depends on the order of the kernels,
which their values leave partly open.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_STATES = 20_000  # sets of finished steps that are looked at before an order is kept as it is


class Step(NamedTuple):
    """A kernel, as far as memory is concerned: names of the values that it reads and makes."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Peaks:
    """Planned bytes of all activations.

    Attributes:
        naive: every value has bytes of its own.
        reused: values that do not live at the same time share bytes.
        reordered: the same, in the order of kernels that needs the least.
    """

    naive: int
    reused: int
    reordered: int


def peaks(steps: Sequence[Step], sizes: Mapping[str, int]) -> Peaks:
    """Planned peaks of a graph.

    Args:
        steps: in the order of execution.
        sizes: value -> bytes, inputs of the graph included.
    """
    reused = plan(steps, sizes).size
    ordered = [steps[i] for i in best_order(steps, sizes)]
    reordered = min(reused, plan(ordered, sizes).size)
    return Peaks(sum(sizes.values()), reused, reordered)


def lifetimes(steps: Sequence[Step], sizes: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """First and last step of each value: inputs live from the first, what nothing reads to the end.

    A value and what is made of it live at the same time, in the step between them.
    """
    end = len(steps) - 1
    first, last = dict[str, int](), dict[str, int]()
    for index, step in enumerate(steps):
        first |= dict.fromkeys(step.writes, index)
        last |= dict.fromkeys(step.reads, index)
    return {name: (first.get(name, 0), last.get(name, end)) for name in sizes}


def live_peak(steps: Sequence[Step], sizes: Mapping[str, int]) -> int:
    """Bytes that live at once at most; no plan needs fewer."""
    change = [0] * (len(steps) + 1)
    for name, (first, last) in lifetimes(steps, sizes).items():
        change[first] += sizes[name]
        change[last + 1] -= sizes[name]
    peak = live = 0
    for bytes_more in change:
        live += bytes_more
        peak = max(peak, live)
    return peak


class Plan(NamedTuple):
    """Where values are in one block of memory: value -> first byte, and the size of the block."""

    offsets: dict[str, int]
    size: int


def plan(steps: Sequence[Step], sizes: Mapping[str, int]) -> Plan:
    """Places in one block of memory, so that no two values overlap while both live.

    Greedy by size (Pisarchyk and Lee, arXiv:2001.03288): the largest first, each at the lowest
    place that is free as long as it lives.
    """
    lives = lifetimes(steps, sizes)
    offsets: dict[str, int] = {}
    size = 0
    for name in sorted(sizes, key=lambda name: (-sizes[name], lives[name], name)):
        first, last = lives[name]
        taken = sorted(
            (at, at + sizes[other])
            for other, at in offsets.items()
            if lives[other][0] <= last and first <= lives[other][1]
        )
        place = 0
        for start, end in taken:
            if place + sizes[name] <= start:
                break
            place = max(place, end)
        offsets[name], size = place, max(size, place + sizes[name])
    return Plan(offsets, size)


def best_order(steps: Sequence[Step], sizes: Mapping[str, int]) -> list[int]:
    """The order of steps in which the fewest bytes live at once; as given where that takes long.

    Sets of finished steps are visited in the order of the peak that led to them, so that the first
    one with all steps has the smallest: Dijkstra's search, with the largest in place of the sum.
    """
    makers = {name: i for i, step in enumerate(steps) for name in step.writes}
    needs = [_bits(makers[name] for name in step.reads if name in makers) for step in steps]
    readers: dict[str, int] = {}
    for i, step in enumerate(steps):
        for name in step.reads:
            readers[name] = readers.get(name, 0) | 1 << i
    given = sum(size for name, size in sizes.items() if name not in makers)
    everything = (1 << len(steps)) - 1
    waiting = [(given, 0, 0, given)]  # peak, -finished, set of finished steps, live bytes
    came: dict[int, tuple[int, int]] = {0: (-1, 0)}  # set -> step that led to it, and from where
    best = {0: given}
    while waiting and len(best) < MOST_STATES:
        peak, minus, done, live = heapq.heappop(waiting)
        if done == everything:
            return _path(came, done)
        if peak > best[done]:
            continue
        for i, step in enumerate(steps):
            if done >> i & 1 or needs[i] & ~done:
                continue
            then, with_it = done | 1 << i, live + sum(sizes[name] for name in step.writes)
            reached = max(peak, with_it)
            if reached >= best.get(then, reached + 1):
                continue
            freed = sum(sizes[name] for name in {*step.reads} if not readers[name] & ~then)
            best[then], came[then] = reached, (i, done)
            heapq.heappush(waiting, (reached, minus - 1, then, with_it - freed))
    return list(range(len(steps)))


def _bits(indices: Iterable[int]) -> int:
    bits = 0
    for index in indices:
        bits |= 1 << index
    return bits


def _path(came: Mapping[int, tuple[int, int]], done: int) -> list[int]:
    order: list[int] = []
    while done:
        step, done = came[done]
        order.append(step)
    return order[::-1]
