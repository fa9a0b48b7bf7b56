"""Blame: the choices of a space that parts which fail have in common, and others have not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from ...spaces import Scalar

MOST = 3  # choices that must meet
CHANCE = 0.1  # of what fails, less than which a choice may explain by chance
SHARE = 0.5  # of what fails, which one that is only blamed for the most part must explain

Row = frozenset[tuple[str, Scalar]]


def blame(
    failing: Sequence[Mapping[str, Scalar]],
    others: Sequence[Mapping[str, Scalar]],
    order: Sequence[str],
) -> list[dict[str, Scalar]]:
    """The fewest choices of which every failing part has some, and the others none.

    Where no choices tell the two apart, those are blamed that the failing ones have in common and
    the fewest others have, which thus go too.

    Args:
        failing: name of a choice -> value, part by part.
        others: the same of those that do not fail.
        order: names of choices, those first that are to be blamed first; none is blamed that has
            one value wherever it has an effect.

    Returns:
        Values that fail where they meet, a clause at a time; none where everything fails.
    """
    if not others:
        return []
    rank = {name: position for position, name in enumerate(order)}
    values: dict[str, set[Scalar]] = {}
    for row in (*failing, *others):
        for name, value in row.items():
            values.setdefault(name, set()).add(value)
    varied = {name for name, some in values.items() if len(some) > 1}

    def rows(parts: Sequence[Mapping[str, Scalar]]) -> Counter[Row]:
        return Counter(frozenset((n, v) for n, v in part.items() if n in varied) for part in parts)

    left, fine, clauses = rows(failing), rows(others), list[Row]()
    while left:
        found = _exact(left, fine, rank) or _likely(left, fine, rank)
        if not found:
            break
        clauses += found
        left, fine = _without(left, found), _without(fine, found)
    return [dict(sorted(clause, key=lambda item: _place(item, rank))) for clause in clauses]


def _exact(left: Counter[Row], fine: Counter[Row], rank: Mapping[str, int]) -> list[Row]:
    """The values of the fewest names that explain much of what is left, and nothing else."""
    for size in range(1, MOST + 1):
        covered: Counter[Row] = Counter()
        for row, count in left.items():
            for items in combinations(row, size):
                covered[frozenset(items)] += count
        by_names: dict[frozenset[str], list[Row]] = {}
        for clause in covered:
            if not any(clause <= row for row in fine):
                by_names.setdefault(frozenset(name for name, _ in clause), []).append(clause)
        explained = {n: sum(covered[c] for c in clauses) for n, clauses in by_names.items()}
        much = [names for names in by_names if explained[names] >= CHANCE * left.total()]
        if much:
            best = min(much, key=lambda names: (-explained[names], _places(names, rank)))
            return sorted(by_names[best], key=lambda clause: repr(sorted(clause)))
    return []


def _likely(left: Counter[Row], fine: Counter[Row], rank: Mapping[str, int]) -> list[Row]:
    """The single choice that fails most often, of those that explain much of what is left."""
    items = {item for row in left for item in row}
    failed = {i: sum(n for row, n in left.items() if i in row) for i in items}
    passed = {i: sum(n for row, n in fine.items() if i in row) for i in items}
    much = [i for i in items if failed[i] >= SHARE * left.total()]
    share = {i: failed[i] / (failed[i] + passed[i]) for i in much}
    if not much:
        return []
    best = min(much, key=lambda i: (-share[i], -failed[i], _place(i, rank)))
    return [frozenset([best])]


def _without(rows: Counter[Row], clauses: Sequence[Row]) -> Counter[Row]:
    return Counter({r: n for r, n in rows.items() if not any(clause <= r for clause in clauses)})


def _places(names: frozenset[str], rank: Mapping[str, int]) -> list[tuple[int, str]]:
    return sorted((rank.get(name, len(rank)), name) for name in names)


def _place(item: tuple[str, Scalar], rank: Mapping[str, int]) -> tuple[int, str]:
    return rank.get(item[0], len(rank)), repr(item)
