"""Images: how many of each class are in which split, and where the list of them is."""

from __future__ import annotations

from ..counted import counted
from ..data.splits import SPLITS
from .confusion import NAME_PX, short
from .facts import Facts
from .markup import table, tag, text

MANY = 12  # classes of which the table is folded away
USES = {
    "train": "trained on",
    "search": "candidates are compared on",
    "validation": "models are chosen and checked on",
    "test": "read once at the end",
}


def images(facts: Facts) -> list[str]:
    """Images by split and class; nothing in runs that did not record theirs."""
    catalog = facts.catalog
    if catalog is None:
        return []
    counts = {split: catalog.counts(split) for split in SPLITS}
    totals = {split: sum(by_class.values()) for split, by_class in counts.items()}
    words = ", ".join(f"{n:,} {USES[split]} ({split})" for split, n in totals.items())
    rows = [
        [
            tag("span", text(short(name, NAME_PX)), data_tip=name),
            *(f"{counts[s][name]:,}" for s in SPLITS),
        ]
        for name in catalog.class_names
    ]
    rows.append([tag("b", "all"), *(tag("b", f"{n:,}") for n in totals.values())])
    listed = table(("class", *SPLITS), rows)
    if len(catalog.class_names) > MANY:
        summary = tag("summary", counted(len(catalog.class_names), "class/classes"))
        listed = tag("details", summary, listed)
    name = facts.folder.images.name
    return [
        tag("h2", "Which images are in which split"),
        tag(
            "p",
            text(f"{sum(totals.values()):,} images: {words}. "),
            tag("a", text(name), href=name),
            text(" in the run folder names each file with its label and split."),
            class_="note",
        ),
        tag("div", listed, class_="card"),
    ]
