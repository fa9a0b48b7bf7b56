"""Assignment: the split of every image, with its copies and its group, and what a split lacks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...spaces.errors import RunError
from ..config import DataConfig
from .catalog import Row
from .duplicates import Duplicates
from .sources.classes import alike
from .sources.listing import Listing, some
from .splits import DECLARED, check_splits, split_by_class


def check_counts(config: DataConfig, listing: Listing) -> None:
    """Check, before anything is decoded, that every class has an image for every split.

    Raises:
        RunError: one has not.
    """
    given = {entry.split for entry in listing.entries}
    parts = ("train", *(part for part in config.shares if part not in given))
    counts = Counter(e.label for e in listing.entries if e.split not in DECLARED)
    remedy = "add some, or take the class out"
    if config.limit:
        remedy = f"data.limit={config.limit} leaves no more"
    for name, count in counts.items():
        if count < len(parts):
            raise RunError(
                f"data: class {name!r} has too few images for the splits {', '.join(parts)}, "
                f"{count} in all: {remedy}"
            )


def assign(
    config: DataConfig, listing: Listing, readable: Sequence[int], copies: Duplicates
) -> tuple[dict[int, str], dict[int, str]]:
    """The split of every image that is used, and why the others are not.

    Splits that the source declares stay as they are, except that a copy of an image of the test
    split is nowhere else, and one of the validation split is not in the train split. An image
    without a split is left out where a declared one is in its group, to which copies belong of any
    image in it.
    """
    entries = listing.entries
    copied = dict(zip(readable, copies.group.tolist(), strict=True))
    splits, notes = dict[int, str](), dict[int, str]()
    held = dict[int, str]()  # group of copies -> the declared split that holds it
    for split in DECLARED:
        mine = [i for i in readable if entries[i].split == split]
        for i in mine:
            if (other := held.get(copied[i], split)) != split:
                notes[i] = f"copy of an image of the {other} split"
            else:
                splits[i] = split
        held |= {copied[i]: split for i in mine if i in splits}
    loose = [i for i in readable if entries[i].split in ("", *DECLARED)]
    grown = _joined([copied[i] for i in loose], [entries[i].group for i in loose])
    group_of = dict(zip(loose, grown.tolist(), strict=True))
    grouped = {
        group_of[i]: split
        for split in reversed(DECLARED)
        for i in loose
        if entries[i].split == split
    }
    pool = list[int]()
    for i in readable:
        if entries[i].split in DECLARED:
            continue
        if split := held.get(copied[i]):
            notes[i] = f"copy of an image of the {split} split"
        elif i in group_of and (split := grouped.get(group_of[i])):
            notes[i] = f"in a group of the {split} split"
        else:
            pool.append(i)
    declared = {entries[i].split for i in splits}
    shares = {part: share for part, share in config.shares.items() if part not in declared}
    labels, groups = listing.labels, [entries[i].group for i in pool]
    parts = split_by_class(
        torch.tensor([labels[i] for i in pool], dtype=torch.long),
        shares,
        config.seed,
        torch.from_numpy(_joined([copied[i] for i in pool], groups)),
    )
    for part, index in parts.items():
        splits |= {pool[i]: part for i in index.tolist()}
    return splits, notes


def _joined(*keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Number of the group of every image, where images that share any key are together."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first = dict[tuple[int, Hashable], int]()
    pairs = [
        (i, first.setdefault((number, key), i))
        for number, column in enumerate(keys)
        for i, key in enumerate(column)
        if key != ""
    ]
    total = len(keys[0])
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_matrix((np.ones(len(pairs)), (rows, columns)), shape=(total, total))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def class_problems(listing: Listing, rows: Sequence[Row]) -> list[str]:
    """What would stop a search: classes that a split lacks."""
    numbers = {name: i for i, name in enumerate(listing.class_names)}
    used = [row for row in rows if row.split]
    declared = {entry.split for entry in listing.entries} & {*DECLARED}
    own = [row for row in used if row.split not in declared]
    labels = torch.tensor([numbers[row.label] for row in own], dtype=torch.long)
    parts = defaultdict[str, list[int]](list)
    for i, row in enumerate(own):
        parts[row.split].append(i)
    wanted = ("train", "search", *(split for split in DECLARED if split not in declared))
    index = {part: torch.tensor(parts[part], dtype=torch.long) for part in wanted}
    problems = list[str]()
    readable = {row.label for row in used}
    given = {entry.label for entry in listing.entries}
    if lost := [name for name in listing.class_names if name in given - readable]:
        problems.append(f"no image of {some(lost)} can be read")
    if strange := sorted({row.label for row in used} - {row.label for row in own}):
        known = sorted({row.label for row in own})
        about = next(
            (
                f"; {one!a} is there, {name!a} is not"
                for name in strange
                if (one := alike(name, known))
            ),
            "",
        )
        problems.append(f"there is nothing to learn {some(strange)} from in the train split{about}")
    try:
        check_splits(labels, index, listing.class_names)
    except RunError as error:
        problems.append(str(error).removeprefix("data: "))
    return problems
