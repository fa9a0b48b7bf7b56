"""Image folders: ROOT/CLASS/**/IMAGE, or ROOT/{train,validation,test}/CLASS/**/IMAGE."""

from __future__ import annotations

import heapq
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ....spaces.errors import RunError
from ..pixels import image_suffixes, lacking_suffixes
from .listing import (
    SPLIT_NAMES,
    Entry,
    FileReader,
    Listing,
    Natural,
    Skipped,
    in_natural_order,
    natural,
    some,
)

Parts = tuple[str, ...]  # names on the way from the root to a file

JUNK = ("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir")
HIDDEN = "hidden or made by the system"
LINKED = "a link to a folder that is read already"
ODD_NAME = "a name that is not UTF-8 or holds a line break"
SPLIT_LIKE = ("training", "testing", "dev", "eval", "evaluation", "holdout")


def list_folder(root: Path, group_level: int = 0) -> Listing:
    """List the images of a folder of class folders, with or without folders of splits above them.

    The folders below the root are splits if each of them that holds images is named as one, in any
    case (train, validation, valid, val, test), train is among them, and it holds class folders.
    Otherwise each is a class, whatever it is called. Folders below a class are parts of it.

    Args:
        root: the folder.
        group_level: number of the folder below the class whose images stay in one split; 0 for
            none.

    Raises:
        RunError: no such folder, one that cannot be read, or fewer than two classes.
    """
    if not root.is_dir():
        raise RunError(f"data.root: no such folder: {str(root)!r}")
    skipped, images = Skipped(), list[Parts]()
    suffixes = {*image_suffixes(), *lacking_suffixes()}
    for parts, reason in _files(root):
        suffix = Path(parts[-1]).suffix.lower()
        if reason:
            skipped.add(reason, "/".join(parts))
        elif suffix not in suffixes:
            skipped.add(f"no image format: {suffix or 'no suffix'}", "/".join(parts))
        else:
            images.append(parts)
    images.sort(key=lambda parts: natural("/".join(parts)))
    with_splits = _has_splits(root, images)
    depth = 1 if with_splits else 0  # of the class folder
    entries, paths = list[Entry](), list[Path]()
    for parts in images:
        name = "/".join(parts)
        if len(parts) < depth + 2:
            skipped.add("in no class folder", name)
            continue
        split = SPLIT_NAMES[parts[0].casefold()] if with_splits else ""
        below = parts[depth + 1 : -1]
        group = below[group_level - 1] if 0 < group_level <= len(below) else ""
        entries.append(Entry(name, parts[depth], split, group))
        paths.append(root.joinpath(*parts))
    classes = in_natural_order(entry.label for entry in entries)
    if len(classes) < 2:
        left_out = "; ".join(
            f"{len(names)} files were left out: {reason} ({some(names)})"
            for reason, names in skipped.by_reason().items()
        )
        raise RunError(
            f"data: {root}: needs folders of two or more classes, has "
            f"{some(classes) or 'none'}{'; ' if left_out else ''}{left_out}"
        )
    warnings = () if with_splits else _odd_classes(classes)
    reader = FileReader(paths)
    return Listing(f"folder {root}", entries, classes, reader, skipped.by_reason(), warnings)


def _files(root: Path) -> Iterator[tuple[Parts, str]]:
    """Every file below a folder, and why it must not be read; empty where it may.

    Links to folders are followed after all else, in natural order, to folders that were not read
    yet: a link to a folder above ends, and the order of the file system changes nothing.
    """
    pending: list[tuple[Parts, Path, bool]] = [((), root, False)]
    links: list[tuple[Natural, Parts, Path]] = []
    seen = set[str]()
    while pending or links:
        if not pending:
            _, parts, folder = heapq.heappop(links)
            if os.path.realpath(folder) in seen:
                yield parts, LINKED
                continue
            pending.append((parts, folder, False))
        parts, folder, hidden = pending.pop()
        if not hidden:
            seen.add(os.path.realpath(folder))
        for item in _scanned(folder):
            below, path = (*parts, item.name), folder / item.name
            unseen = hidden or item.name.startswith(".") or item.name.casefold() in JUNK
            if not _is_folder(item) or (unseen and item.is_symlink()):
                odd = not unseen and _is_odd("/".join(below))
                yield below, HIDDEN if unseen else ODD_NAME if odd else ""
            elif item.is_symlink():
                heapq.heappush(links, (natural("/".join(below)), below, path))
            else:
                pending.append((below, path, unseen))


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder.

    Raises:
        RunError: it cannot be read.
    """
    try:
        with os.scandir(folder) as scanned:
            return list(scanned)
    except PermissionError as error:
        raise RunError(
            f"data: {folder}: no permission to read this folder: allow it, or take it out of "
            "the root"
        ) from error
    except OSError as error:
        raise RunError(f"data: {folder}: cannot be read: {error.strerror}") from error


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself, or to where we may not look
        return False


def _is_odd(name: str) -> bool:
    """Whether a name cannot be written into a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return "\r" in name


def _has_splits(root: Path, images: Sequence[Parts]) -> bool:
    """Whether the folders below the root are splits.

    Raises:
        RunError: they are, but two would be the same split, or there are others beside them.
    """
    names = {parts[0] for parts in images if len(parts) > 1}
    below = {name: set[str]() for name in names}
    for parts in images:
        if len(parts) > 2:
            below[parts[0]].add(parts[1])
    direct = {parts[0] for parts in images if len(parts) == 2}
    by_split = defaultdict[str, list[str]](list)
    for name in sorted(names):
        by_split[SPLIT_NAMES.get(name.casefold(), "")].append(name)
    if not (train := by_split["train"]):
        return False
    if others := by_split.pop("", []):
        held = [name for names in by_split.values() for name in names if name not in train]
        alike = [name for name in held if len(below[name] & below[train[0]]) > 1]
        if not alike or direct & {*alike, *train}:
            return False
        raise RunError(
            f"data: {root}: {train[0]!r} and {alike[0]!r} hold the same classes, as splits do, but "
            f"{some(others)} is beside them: move it, or name the images in a CSV file"
        )
    classes = set[str]().union(*(below[name] for name in train))
    if not classes or (direct & {*train} and len(classes) < 2):
        return False  # classes that happen to be called train and test
    for split, folders in by_split.items():
        if len(folders) > 1:
            raise RunError(
                f"data: the folders {' and '.join(map(repr, folders))} would both be the {split} "
                "split: keep one of them"
            )
    return True


def _odd_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Warnings of classes that look like splits."""
    odd = [c for c in classes if c.casefold() in (*SPLIT_NAMES, *SPLIT_LIKE)]
    if not odd:
        return ()
    return (
        f"{some(odd)} {'is' if len(odd) == 1 else 'are'} read as a class: splits need folders "
        "called train, validation and test alone below the root",
    )
