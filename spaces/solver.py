"""Solver: values for all variables that satisfy every check, in a wanted order of preference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from .errors import SpaceError
from .layout import Test, Values
from .parameter import Scalar

MAX_DEAD_ENDS = 200_000

Order = Callable[[int], Iterable[Scalar]]
Checks = Sequence[Sequence[tuple[tuple[int, ...], Test]]]


def solve(start: Values, checks: Checks, order: Order) -> Values:
    """Give every variable the first value of its order that the others admit.

    Depth-first with conflict-directed backjumping (Prosser 1993): at a dead end it returns to
    the last variable that had a part in it.

    Args:
        start: a list of values; those of variables are replaced in a copy.
        checks: for each variable, (variables read, test) of what can be tested once it has a
            value.
        order: variable -> its values, the preferred one first.

    Raises:
        SpaceError: no values satisfy the checks.
    """
    values = start.copy()
    left: list[Iterator[Scalar] | None] = [None] * len(checks)
    blame: defaultdict[int, set[int]] = defaultdict(set)
    v = dead_ends = 0
    while v < len(checks):
        iterator = left[v]
        if iterator is None:
            iterator = left[v] = iter(order(v))
            blame.pop(v, None)
        for value in iterator:
            values[v] = value
            for reads, test in checks[v]:
                if not test(values):
                    blame[v].update(reads)
                    break
            else:
                v += 1
                break
        else:
            dead_ends += 1
            blame[v].discard(v)
            if not blame[v] or dead_ends > MAX_DEAD_ENDS:
                raise SpaceError("no candidate satisfies all rules and forbidden clauses")
            back = max(blame[v])
            blame[back] |= blame[v] - {back}
            left[back + 1 : v + 1] = [None] * (v - back)
            v = back
    return values
