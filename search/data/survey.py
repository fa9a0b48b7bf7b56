"""Survey: look at every image of a source once, and decide what becomes of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from ...spaces.errors import RunError
from ..config import DataConfig
from ..counted import counted
from .assignment import assign, class_problems
from .balance import balance_warning
from .catalog import COPY, STOPS, Catalog, Row, skipped_rows
from .decoding import PAD_GRAY
from .duplicates import SIDE, Duplicates, find_duplicates, fingerprint
from .planning import ReadingPlan
from .reading import Pixels, Seen, read_all, unreadable
from .sources.listing import Listing, natural, some
from .splits import DECLARED


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
        prints[index] = fingerprint(picture(image, plan.look.fit))

    seen, logged = read_all(listing, plan.look, keep, log)
    if pixels is not None:
        for index in range(logged):
            prints[index] = fingerprint(picture(pixels[index], plan.look.fit))
    readable = [i for i, one in enumerate(seen) if not one.reason]
    if len(seen) - len(readable) > config.broken * len(seen):
        text = f"{unreadable(listing, seen)}; data.broken allows a share of {config.broken:g}"
        problems.append(text)
    copies = find_duplicates(prints[readable], [seen[i].digest for i in readable])
    splits, notes = assign(config, listing, readable, copies)
    rows = [
        Row(
            entry.name, entry.label, splits.get(i, ""), seen[i].digest, notes.get(i, seen[i].reason)
        )
        for i, entry in enumerate(listing.entries)
    ]
    problems += class_problems(listing, rows)
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
        warnings=[f"{STOPS}{problem}" for problem in problems],
    )
    found = [*listing.warnings, *_copy_warnings(catalog, readable, copies)]
    found += _split_warnings(config, listing, splits)
    found += _gaps(catalog, listing)
    if config.balance == "none":
        found += filter(
            None, [balance_warning({c: n for c, n in catalog.counts("train").items() if n})]
        )
    return replace(catalog, warnings=[*catalog.warnings, *found])


def as_image(pixels: Pixels) -> Image.Image:
    """Pixels (C, S, S) as an image."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def picture(pixels: Pixels, fit: str) -> Image.Image:
    """What pixels (C, S, S) show; without the bars beside it, which all images would share."""
    image = as_image(pixels)
    if fit != "pad":
        return image
    canvas = Image.new(image.mode, image.size, (PAD_GRAY,) * len(pixels))
    return image.crop(ImageChops.difference(image, canvas).getbbox())


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


def _split_warnings(config: DataConfig, listing: Listing, splits: Mapping[int, str]) -> list[str]:
    """Lines on declared splits, and on groups that they tear apart.

    Of the splits those are named of which nothing is left, and those for which the configuration
    asks for another share than usual, which nobody cuts.
    """
    declared = {entry.split for entry in listing.entries}
    left = {listing.entries[i].split for i in splits}
    lines = [
        f"no image of the {split} split is left: another one is cut from the train split"
        for split in DECLARED
        if split in declared - left
    ]
    usual = DataConfig().shares
    lines += [
        f"data.{split} {share:g} is not used, as the images bring a {split} split of their own"
        for split, share in config.shares.items()
        if split in left and share != usual[split]
    ]
    where = defaultdict[str, set[str]](set)
    for i, split in splits.items():
        where[listing.entries[i].group].add(split)
    torn = sorted((name for name in where if name and len(where[name]) > 1), key=natural)
    if torn:
        lines.append(f"{len(torn)} groups lie in several of the declared splits: {some(torn)}")
    return lines


def _gaps(catalog: Catalog, listing: Listing) -> list[str]:
    """Lines on classes that are trained on, but that a declared split lacks."""
    trained, warnings = catalog.counts("train"), list[str]()
    for split in sorted({entry.split for entry in listing.entries} & {*DECLARED}):
        held = catalog.counts(split)
        if lacking := [name for name, n in trained.items() if n and not held[name]]:
            warnings.append(f"the {split} split of the data has no image of {some(lacking)}")
    return warnings


def _copy_warnings(catalog: Catalog, readable: Sequence[int], copies: Duplicates) -> list[str]:
    """Lines on copies that lie in several splits or classes."""
    warnings = list[str]()
    if left_out := [row for row in catalog.rows if row.note.startswith(COPY)]:
        many = counted(len(left_out), "image")
        warnings.append(
            f"{many} of the data left out for showing the same as one of a declared split: "
            f"{some([row.path for row in left_out])}"
        )
    for kind, words in (("", "one is wrong"), ("nearly ", "one may be wrong")):
        groups = copies.near if kind else copies.exact
        named = [[catalog.rows[readable[i]] for i in group] for group in groups]
        if disputed := [rows for rows in named if len({row.label for row in rows}) > 1]:
            by_label = dict[str, str]()
            for row in disputed[0]:
                by_label.setdefault(row.label, row.path)
            first = ", ".join(f"{path!r} is {label!r}" for label, path in by_label.items())
            many = counted(len(disputed), "picture")
            warnings.append(
                f"under two labels, of which {words}: {many} in {kind}equal files, such as {first}"
            )
    return warnings
