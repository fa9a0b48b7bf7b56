"""Image folders: ROOT/CLASS/**/IMAGE, or ROOT/{train,validation,test}/CLASS/**/IMAGE."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ....spaces.errors import RunError
from ...counted import counted
from ..pixels import image_suffixes, lacking_suffixes
from .listing import (
    SPLIT_NAMES,
    Entry,
    FileReader,
    Listing,
    Skipped,
    in_natural_order,
    natural,
    some,
)
from .tables import SUFFIXES as TABLES

Parts = tuple[str, ...]  # names on the way from the root to a file
_Folder = tuple[Parts, str, str, bool]  # path, path without links, whether it is hidden

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
    if not is_folder(root):
        raise RunError(f"data.root: no such folder: {str(root)!r}")
    skipped, images = Skipped(), list[Parts]()
    suffixes = {*image_suffixes(), *lacking_suffixes()}
    found = _walk(root)
    for parts in found.again:
        skipped.add(LINKED, "/".join(parts))
    for parts, hidden in found.files:
        suffix = Path(parts[-1]).suffix.lower()
        if hidden:
            skipped.add(HIDDEN, "/".join(parts))
        elif (shown := _as_text(name := "/".join(parts))) != name or "\r" in name:
            skipped.add(ODD_NAME, shown)
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
            f"{counted(len(names), 'file')} left out: {reason} ({some(names)})"
            for reason, names in skipped.by_reason().items()
        )
        raise RunError(
            f"data: {root}: needs folders of two or more classes, has "
            f"{some(classes) or 'none'}{_deeper(root, images, depth)}"
            f"{'; ' if left_out else ''}{left_out}"
        )
    warnings = () if with_splits else _odd_classes(classes)
    warnings += _splits_below(images, depth)
    warnings += _empty_folders(found.folders, images, depth + 1)
    reader = FileReader(paths)
    return Listing(f"folder {root}", entries, classes, reader, skipped.by_reason(), warnings)


def _deeper(root: Path, images: Sequence[Parts], depth: int) -> str:
    """A question where the folders below the only class look like the classes."""
    deep = [parts for parts in images if len(parts) > depth + 2]
    if len({parts[depth + 1] for parts in deep}) < 2:
        return ""
    return f"; are the classes in {str(root.joinpath(*deep[0][: depth + 1]))!r}?"


def is_folder(root: Path) -> bool:
    """Whether a root is a folder; False where there is nothing, or a table.

    Raises:
        RunError: it is another file, or in a folder that must not be entered.
    """
    try:
        folder, file = root.is_dir(), root.is_file()
    except OSError as error:
        raise RunError(f"data.root: {root}: cannot be reached: {error.strerror}") from error
    if file and root.suffix.lower() not in TABLES:
        raise RunError(
            f"data.root: {str(root)!r} is a file: name a folder of class folders, or a table that "
            f"ends in {' or '.join(TABLES)}"
        )
    return folder


@dataclass(frozen=True)
class _Found:
    """What is below a folder.

    Attributes:
        files: and whether one, or a folder on the way, is hidden.
        folders: that are not hidden.
        again: links to folders that are read elsewhere.
    """

    files: list[tuple[Parts, bool]] = field(default_factory=list[tuple[Parts, bool]])
    folders: list[Parts] = field(default_factory=list[Parts])
    again: list[Parts] = field(default_factory=list[Parts])


def _walk(root: Path) -> _Found:
    """Everything below a folder.

    Links to folders are followed after all that is there without them, in natural order, and each
    folder is read once: a link to a folder above ends, and the order of the file system does not
    decide under which of two names a folder is read.
    """
    found = _Found()
    seen = {os.path.realpath(root)}
    pending: list[_Folder] = [((), str(root), os.path.realpath(root), False)]
    links = list[_Folder]()
    while pending or links:
        if not pending:
            links.sort(key=lambda link: natural("/".join(link[0])), reverse=True)
            link = links.pop()
            if link[2] in seen:
                found.again.append(link[0])
                continue
            pending.append(link)
        parts, folder, real, hidden = pending.pop()
        if not hidden:
            seen.add(real)
            found.folders.append(parts)
        for item in _scanned(folder):
            below = (*parts, item.name)
            unseen = hidden or item.name.startswith(".") or item.name.casefold() in JUNK
            linked = item.is_symlink()
            if not _leads_to_folder(item) or (linked and unseen):
                found.files.append((below, unseen))
            elif linked:
                links.append((below, item.path, os.path.realpath(item.path), unseen))
            elif (inner := str(Path(real, item.name))) not in seen:
                pending.append((below, item.path, inner, unseen))
    return found


def _scanned(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as scanned:
            return list(scanned)
    except PermissionError as error:
        raise RunError(
            f"data: {folder}: no permission to read this folder: allow it, or take it out of the "
            "root"
        ) from error
    except OSError as error:
        raise RunError(f"data: {folder}: cannot be read: {error.strerror}") from error


def _leads_to_folder(item: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that leads nowhere is a file."""
    try:
        return item.is_dir()
    except OSError:  # such as a link to itself
        return False


def _as_text(name: str) -> str:
    """A name that can be written as UTF-8, which bytes of another encoding cannot."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _empty_folders(
    folders: Sequence[Parts], images: Sequence[Parts], depth: int
) -> tuple[str, ...]:
    """A warning of folders of classes, or of splits, without an image."""
    held = {parts[:n] for parts in images for n in range(1, min(depth, len(parts) - 1) + 1)}
    empty = [parts for parts in folders if 0 < len(parts) <= depth and parts not in held]
    if not empty:
        return ()
    names = sorted((_as_text("/".join(parts)) for parts in empty), key=natural)
    many = counted(len(names), "folder")
    return (f"without an image that is read, and no class: {many}: {some(names)}",)


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
        _check_names(root, below)
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


def _check_names(root: Path, below: Mapping[str, set[str]]) -> None:
    """Check that folders without a train split are no splits under other names.

    Raises:
        RunError: all are called as splits are elsewhere, and two hold the same classes.
    """
    known = (*SPLIT_NAMES, *SPLIT_LIKE)
    if len(below) > 1 and all(name.casefold() in known for name in below):
        first, *others = sorted(below)
        if any(len(below[first] & below[other]) > 1 for other in others):
            raise RunError(
                f"data: {root}: {some(sorted(below))} hold the same classes, as splits do: call "
                "them train, validation and test"
            )


def _odd_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Warnings of classes that look like splits."""
    odd = [c for c in classes if c.casefold() in (*SPLIT_NAMES, *SPLIT_LIKE)]
    if not odd:
        return ()
    return (
        f"{some(odd)} {'is' if len(odd) == 1 else 'are'} read as a class: splits need folders "
        "called train, validation and test alone below the root",
    )


def _splits_below(images: Sequence[Parts], depth: int) -> tuple[str, ...]:
    """A warning of folders of splits right below those of classes."""
    below = {parts[depth + 1] for parts in images if len(parts) > depth + 2}
    named = sorted(name for name in below if name.casefold() in SPLIT_NAMES)
    splits = {SPLIT_NAMES[name.casefold()] for name in named}
    if "train" not in splits or len(splits) < 2:
        return ()
    return (
        f"the folders {some(named)} below classes are read as parts of these: splits need folders "
        "of these names above the classes",
    )
