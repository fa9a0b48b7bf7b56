"""Survey: look at every image of a source once, and decide what becomes of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ...spaces.errors import RunError
from ..config import DataConfig
from .balance import balance_warning
from .catalog import Catalog, Row, skipped_rows
from .duplicates import SIDE, Duplicates, find_duplicates, fingerprint
from .pixels import Look, choose_channels, choose_fit
from .reading import Pixels, Seen, read_all
from .sources import list_images
from .sources.listing import Listing, natural, some
from .splits import check_splits, split_by_class

SAMPLE = 256  # images that say how all are shown
THUMBNAIL = Look(32, 3, "squash")
DECLARED = ("test", "validation")  # splits that a source may bring, the more precious one first


@dataclass(frozen=True)
class ReadingPlan:
    """What will be read, and how it is shown.

    Attributes:
        listing: of the images, no more than the configuration asks for.
        look: how networks see them.
        decided: sentences on what was decided.
    """

    listing: Listing
    look: Look
    decided: tuple[str, ...]


@lru_cache(maxsize=1)
def plan_reading(config: DataConfig, size: int) -> ReadingPlan:
    """List the images, and decide from a sample how they are shown.

    Args:
        config: of the data.
        size: side in pixels.

    Raises:
        RunError: the source cannot be read, or no image of the sample can.
    """
    listing = _limited(list_images(config), config.limit, config.seed)
    few = _sample(listing)
    thumbnails: dict[int, Pixels] = {}
    seen, _ = read_all(few, THUMBNAIL, thumbnails.__setitem__)
    if not thumbnails:
        raise RunError(f"data: {listing.name}: no image can be read: {_unreadable(few, seen)}")
    channels, fit, decided = config.channels, config.fit, list[str]()
    if not channels:
        channels, words = choose_channels(thumbnails.values())
        decided.append(words)
    if not fit:
        fit, words = choose_fit([(s.width, s.height) for s in seen if not s.reason])
        decided.append(words)
    return ReadingPlan(listing, Look(size, channels, fit), tuple(decided))


def check_counts(config: DataConfig, listing: Listing) -> None:
    """Check, before anything is decoded, that every class has an image for every split.

    Raises:
        RunError: one has not.
    """
    given = {entry.split for entry in listing.entries}
    parts = ("train", *(part for part in config.shares if part not in given))
    counts = Counter(e.label for e in listing.entries if e.split not in DECLARED)
    for name, count in counts.items():
        if count < len(parts):
            raise RunError(
                f"data: class {name!r} has too few images for the splits {', '.join(parts)}, "
                f"{count} in all: add some, or take the class out"
            )


def survey(
    config: DataConfig,
    plan: ReadingPlan,
    pixels: Pixels | None = None,
    log: Path | None = None,
    strict: bool = True,
) -> Catalog:
    """Read every image, and decide which is used, and in which split.

    Args:
        config: of the data.
        plan: from `plan_reading`.
        pixels: (N, C, S, S), which is written; None keeps none.
        log: remembers which of them stand there, so that a stopped survey goes on.
        strict: raise what would stop a search; otherwise it is a warning.

    Raises:
        RunError: too many images cannot be read, or a split would lack a class.
    """
    listing, problems = plan.listing, list[str]()
    prints = np.zeros((len(listing.entries), SIDE, SIDE), np.uint8)

    def keep(index: int, image: Pixels) -> None:
        if pixels is not None:
            pixels[index] = image
        prints[index] = fingerprint(as_image(image))

    seen, logged = read_all(listing, plan.look, keep, log)
    if pixels is not None:
        for index in range(logged):
            prints[index] = fingerprint(as_image(pixels[index]))
    readable = [i for i, one in enumerate(seen) if not one.reason]
    if len(seen) - len(readable) > config.broken * len(seen):
        text = f"{_unreadable(listing, seen)}; data.broken allows a share of {config.broken:g}"
        problems.append(text)
    copies = find_duplicates(prints[readable], [seen[i].digest for i in readable])
    splits, notes = _assign(config, listing, readable, copies)
    rows = [
        Row(
            entry.name, entry.label, splits.get(i, ""), seen[i].digest, notes.get(i, seen[i].reason)
        )
        for i, entry in enumerate(listing.entries)
    ]
    problems += _class_problems(listing, rows)
    if problems and strict:
        raise RunError(f"data: {problems[0]}")
    skipped = defaultdict[str, list[str]](list, {k: [*v] for k, v in listing.skipped.items()})
    for row in rows:
        if not row.split:
            skipped[row.note].append(row.path)
    catalog = Catalog(
        name=config.label,
        class_names=listing.class_names,
        look=plan.look,
        rows=rows,
        decided=plan.decided,
        facts=_facts(listing, seen, readable, copies),
        skipped=skipped_rows({k: sorted(v, key=natural) for k, v in skipped.items()}),
        warnings=[f"a search would stop: {problem}" for problem in problems],
    )
    found = [*listing.warnings, *_copy_warnings(catalog, readable, copies)]
    found += _group_warnings(listing, splits)
    if config.balance == "none":
        found += filter(None, [balance_warning(catalog.counts("train"))])
    return replace(catalog, warnings=[*catalog.warnings, *found])


def as_image(pixels: Pixels) -> Image.Image:
    """Pixels (C, S, S) as an image."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _limited(listing: Listing, limit: int, seed: int) -> Listing:
    """At most `limit` images, the same number of each class, and all of a declared test split."""
    cut = [i for i, entry in enumerate(listing.entries) if entry.split not in DECLARED]
    if not limit or len(cut) <= limit:
        return listing
    each = max(1, limit // len({listing.entries[i].label for i in cut}))
    order = np.random.default_rng(seed).permutation(cut).tolist()
    taken = Counter[str]()
    chosen = {i for i, entry in enumerate(listing.entries) if entry.split in DECLARED}
    for i in order:
        label = listing.entries[i].label
        if taken[label] < each:
            taken[label] += 1
            chosen.add(i)
    return listing.only(sorted(chosen))


def _sample(listing: Listing) -> Listing:
    """Images from all of a listing, in equal steps."""
    total = len(listing.entries)
    few = min(total, SAMPLE)
    return listing.only([i * total // few for i in range(few)])


def _unreadable(listing: Listing, seen: Sequence[Seen]) -> str:
    """How many images cannot be read, by reason, with the first of them."""
    names = defaultdict[str, list[str]](list)
    for entry, one in zip(listing.entries, seen, strict=True):
        if one.reason:
            names[one.reason].append(entry.name)
    total = sum(map(len, names.values()))
    listed = "; ".join(f"{len(found)} {reason}: {some(found)}" for reason, found in names.items())
    return f"{total} of {len(seen)} images cannot be read ({listed})"


def _assign(
    config: DataConfig, listing: Listing, readable: Sequence[int], copies: Duplicates
) -> tuple[dict[int, str], dict[int, str]]:
    """The split of every image that is used, and why the others are not.

    Splits that the source declares stay as they are, except that a copy of an image of the test
    split is nowhere else, and one of the validation split is not in the train split.
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
    pool = list[int]()
    for i in readable:
        if entries[i].split in DECLARED:
            continue
        if split := held.get(copied[i]):
            notes[i] = f"copy of an image of the {split} split"
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


def _class_problems(listing: Listing, rows: Sequence[Row]) -> list[str]:
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
        problems.append(f"there is nothing to learn {some(strange)} from in the train split")
    try:
        check_splits(labels, index, listing.class_names)
    except RunError as error:
        problems.append(str(error).removeprefix("data: "))
    return problems


def _facts(
    listing: Listing, seen: Sequence[Seen], readable: Sequence[int], copies: Duplicates
) -> dict[str, Any]:
    """Figures on the files."""
    widths = np.array([seen[i].width for i in readable] or [0])
    heights = np.array([seen[i].height for i in readable] or [0])
    ratios = widths / np.maximum(heights, 1)
    quantiles = (0, 0.05, 0.5, 0.95, 1)
    return {
        "source": listing.name,
        "files": len(seen),
        "width": np.quantile(widths, quantiles).astype(int).tolist(),
        "height": np.quantile(heights, quantiles).astype(int).tolist(),
        "aspect_ratio": np.quantile(ratios, quantiles).round(2).tolist(),
        "modes": dict(Counter(seen[i].mode for i in readable).most_common()),
        "duplicates": _duplicates(listing, readable, copies),
    }


def _duplicates(
    listing: Listing, readable: Sequence[int], copies: Duplicates
) -> dict[str, Mapping[str, Any]]:
    """Groups of copies: how many, of how many images, and the first of them by name."""

    def about(groups: Sequence[Sequence[int]]) -> dict[str, Any]:
        named = [[listing.entries[readable[i]].name for i in group] for group in groups]
        return {"groups": len(groups), "images": sum(map(len, groups)), "first": named[:3]}

    return {"exact": about(copies.exact), "near": about(copies.near)}


def _group_warnings(listing: Listing, splits: Mapping[int, str]) -> list[str]:
    """A line on groups that the declared splits tear apart."""
    where = defaultdict[str, set[str]](set)
    for i, split in splits.items():
        where[listing.entries[i].group].add(split)
    torn = sorted((name for name in where if name and len(where[name]) > 1), key=natural)
    if not torn:
        return []
    return [f"{len(torn)} groups lie in several of the declared splits: {some(torn)}"]


def _copy_warnings(catalog: Catalog, readable: Sequence[int], copies: Duplicates) -> list[str]:
    """Lines on copies that lie in several splits or classes."""
    warnings = list[str]()
    if left_out := [row for row in catalog.rows if row.note.startswith("copy of")]:
        warnings.append(
            f"{len(left_out)} images of the data are left out, as they show the same as one of a "
            f"declared split: {some([row.path for row in left_out])}"
        )
    for kind, words in (("", "one is wrong"), ("nearly ", "one may be wrong")):
        groups = copies.near if kind else copies.exact
        named = [[catalog.rows[readable[i]] for i in group] for group in groups]
        if disputed := [rows for rows in named if len({row.label for row in rows}) > 1]:
            by_label = {row.label: row.path for row in disputed[0]}
            first = ", ".join(f"{path!r} is {label!r}" for label, path in by_label.items())
            warnings.append(
                f"{len(disputed)} pictures stand under two labels, in {kind}the same file, of "
                f"which {words}: {first}"
            )
    return warnings
