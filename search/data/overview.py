"""Overview: what a catalog holds, for people and for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..store.atomic_files import write_atomic
from .catalog import Catalog, table_text
from .splits import SPLITS

EXAMPLES = 8  # of each class on a contact sheet
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


def overview_lines(catalog: Catalog) -> list[str]:
    """Lines that print an overview."""
    facts, look = catalog.facts, catalog.look
    lines = [f"{facts['source']}: {facts['files']:,} images, {len(catalog.class_names)} classes"]
    lines += ["", *_class_lines(catalog)]
    if "width" in facts:
        lines += ["", f"{'':14}  smallest      5%  median     95%  largest"]
        for name in ("width", "height", "aspect_ratio"):
            least, low, middle, high, most = (f"{value:g}" for value in facts[name])
            label = name.replace("_", " ")
            lines.append(f"{label:14}  {least:>8}  {low:>6}  {middle:>6}  {high:>6}  {most:>7}")
        modes = ", ".join(f"{n:,} {mode}" for mode, n in facts["modes"].items())
        lines.append(f"{'modes of files':14}  {modes}")
    if duplicates := facts.get("duplicates"):
        lines.append("")
        for kind, words in (("exact", "the same file"), ("near", "nearly the same picture")):
            about = duplicates[kind]
            first = "".join(f"; such as {' = '.join(group[:3])}" for group in about["first"][:1])
            lines.append(f"{about['images']:,} images show {words} as another{first}")
        lines.append("Copies are kept in one split.")
    lines += [
        "",
        f"Networks see {look.size} x {look.size} pixels, "
        f"{'gray' if look.channels == 1 else 'color'}; {FITS[look.fit]}.",
    ]
    lines += [f"  {words}" for words in catalog.decided]
    for row in catalog.skipped:
        names = ", ".join(map(repr, row["first"]))
        lines.append(f"left out: {row['count']:,} files, {row['reason']}: {names}")
    return lines + [f"warning: {line}" for line in catalog.warnings]


def write_files(catalog: Catalog, path: Path) -> None:
    """Write a table of path, label and split of every image that is read."""
    used = [row for row in catalog.rows if row.split]
    write_atomic(path, table_text(used, ("path", "label", "split")))


def examples(catalog: Catalog, each: int = EXAMPLES) -> list[int]:
    """Numbers of the first rows of each class that are trained on."""
    taken = Counter[str]()
    chosen: list[int] = []
    for i, row in enumerate(catalog.rows):
        if row.split == "train" and taken[row.label] < each:
            taken[row.label] += 1
            chosen.append(i)
    return sorted(chosen, key=lambda i: catalog.class_names.index(catalog.rows[i].label))


def _class_lines(catalog: Catalog) -> Sequence[str]:
    """Images of each class in each split; of many classes only the smallest and largest."""
    counts = {split: catalog.counts(split) for split in SPLITS}
    names = list(catalog.class_names)
    left_out = len(names) - MOST
    if left_out > 0:
        ordered = sorted(names, key=lambda name: -sum(c[name] for c in counts.values()))
        names = ordered[: MOST // 2] + ordered[-MOST // 2 :]
    width = max(5, *(len(name) for name in names))
    columns = "".join(f"{split:>12}" for split in SPLITS)
    lines = [f"{'class':{width}}{columns}"]
    lines += [
        f"{name:{width}}" + "".join(f"{counts[split][name]:12,}" for split in SPLITS)
        for name in names
    ]
    if left_out > 0:
        lines.append(f"and {left_out} classes of sizes in between")
    total = "".join(f"{sum(counts[split].values()):12,}" for split in SPLITS)
    return [*lines, f"{'all':{width}}{total}"]
