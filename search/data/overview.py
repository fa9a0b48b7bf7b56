"""Overview: what a catalog holds, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..counted import counted
from ..store.atomic_files import write_atomic
from .catalog import Catalog, table_text, without_copies
from .contact_sheet import CLASSES, each_of
from .splits import SPLITS

MOST = 30  # classes that are listed one by one
FITS = {
    "crop": "the square in the middle is taken",
    "pad": "the whole image is put on a gray square",
    "squash": "the whole image is squashed into a square",
}


def overview(catalog: Catalog) -> dict[str, Any]:
    """Catalog without its rows, with the images of each split and class."""
    counts = {split: catalog.counts(split) for split in SPLITS}
    return {
        "name": catalog.name,
        "classes": list(catalog.class_names),
        "channels": catalog.look.channels,
        "size": catalog.look.size,
        "fit": catalog.look.fit,
        "splits": {
            split: {"images": sum(by_class.values()), "by_class": by_class}
            for split, by_class in counts.items()
        },
        "skipped": [dict(row) for row in catalog.skipped],
        "duplicates": dict(catalog.facts.get("duplicates", {})),
        "decided": list(catalog.decided),
        "files": {k: v for k, v in catalog.facts.items() if k != "duplicates"},
        "warnings": list(catalog.warnings),
    }


def overview_lines(about: Mapping[str, Any]) -> list[str]:
    """Lines that print an overview."""
    files, color = about["files"], "gray" if about["channels"] == 1 else "color"
    return [
        f"{files['source']}: {counted(files['files'], 'image')}, "
        f"{counted(len(about['classes']), 'class/classes')}",
        "",
        *_class_lines(about["splits"]),
        *_file_lines(files),
        *_copy_lines(about["duplicates"]),
        "",
        f"Networks see {about['size']} x {about['size']} pixels, {color}; {FITS[about['fit']]}.",
        *(f"  {words}" for words in about["decided"]),
        *(
            f"left out: {counted(row['count'], 'file')}, {row['reason']}: "
            + ", ".join(map(repr, row["first"]))
            + (f" and {more} more" if (more := row["count"] - len(row["first"])) else "")
            for row in without_copies(about["skipped"])
        ),
        *(f"warning: {line}" for line in about["warnings"]),
    ]


def in_one_line(name: str) -> str:
    r"""A name as it is if a line can show it, otherwise in quotes with its characters spelled out.

    >>> in_one_line("T-Shirt"), in_one_line("a\nb"), in_one_line("dog ")
    ('T-Shirt', "'a\\nb'", "'dog '")
    """
    return name if name.isprintable() and name == name.strip() else repr(name)


def _file_lines(files: Mapping[str, Any]) -> list[str]:
    """Sizes and modes of the files."""
    if "width" not in files:
        return []
    lines = ["", f"{'':14}  smallest      5%  median     95%  largest"]
    for name in ("width", "height", "aspect_ratio"):
        least, low, middle, high, most = (f"{value:g}" for value in files[name])
        label = name.replace("_", " ")
        lines.append(f"{label:14}  {least:>8}  {low:>6}  {middle:>6}  {high:>6}  {most:>7}")
    modes = ", ".join(f"{n:,} {mode}" for mode, n in files["modes"].items())
    return [*lines, f"{'modes':14}  {modes}"]


def _copy_lines(duplicates: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for kind, words in (("exact", "the same file"), ("near", "nearly the same picture")):
        if about := duplicates.get(kind, {}).get("images"):
            first = " = ".join(map(in_one_line, duplicates[kind]["first"][0][:3]))
            lines.append(f"{about:,} images show {words} as another, such as {first}")
    return ["", *lines, "Copies stay in one split."] if lines else []


def write_files(catalog: Catalog, path: Path) -> None:
    """Write a table of path, label and split of every image that is read."""
    used = [row for row in catalog.rows if row.split]
    write_atomic(path, table_text(used, ("path", "label", "split")))


def examples(catalog: Catalog) -> list[int]:
    """Numbers of the first rows of each class that are trained on, as many as a sheet shows."""
    chosen = {name: list[int]() for name, images in catalog.counts("train").items() if images}
    each = each_of(max(1, min(CLASSES, len(chosen))))
    for i, row in enumerate(catalog.rows):
        if row.split == "train" and len(chosen[row.label]) < each:
            chosen[row.label].append(i)
    return [i for of_class in chosen.values() for i in of_class]


def _class_lines(splits: Mapping[str, Any]) -> list[str]:
    """Images of each class in each split; of many classes only the largest and smallest."""
    counts = {split: splits[split]["by_class"] for split in SPLITS}
    names = list(counts["train"])
    left_out = len(names) - MOST
    if left_out > 0:
        ordered = sorted(names, key=lambda name: -sum(c[name] for c in counts.values()))
        names = ordered[: MOST // 2] + ordered[-MOST // 2 :]
    shown = {name: in_one_line(name) for name in names}
    width = max(5, *map(len, shown.values()))
    rows = [(shown[name], [counts[split][name] for split in SPLITS]) for name in names]
    rows.append(("all", [splits[split]["images"] for split in SPLITS]))
    lines = [f"{'class':{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    lines += [f"{name:{width}}" + "".join(f"{n:12,}" for n in found) for name, found in rows]
    if left_out > 0:
        words = counted(left_out, "class/classes")
        lines.insert(-1, f"... and {words} of sizes in between")
    return lines
