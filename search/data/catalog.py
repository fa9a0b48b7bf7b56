"""Catalog: every image of a run with label, split and digest, decided once and kept in its folder.

Everything that reads images later asks the catalog, so that neither a file system's order nor a
file that came later changes a label or a split.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...spaces.errors import RunError
from ..store.atomic_files import read_json, write_atomic, write_json
from .augment import Norm
from .pixels import Look
from .sources.listing import NAMED

STOPS = "a search would stop: "  # begins a warning of what a search does not put up with
COPY = "copy of"  # begins the note of an image that is left out for another one
COLUMNS = ("path", "label", "split", "digest", "note")


@dataclass(frozen=True, slots=True)
class Row:
    """An image of a run.

    Attributes:
        path: of its file below the root, or its number in a data set.
        label: its class.
        split: of the run; empty where it is not read.
        digest: of its content.
        note: why it is not read.
    """

    path: str
    label: str
    split: str
    digest: str
    note: str = ""


@dataclass(frozen=True)
class Catalog:
    """The images of a run.

    Attributes:
        name: of the data set.
        class_names: in the order of the labels.
        look: how networks see the images.
        rows: one an image; the pixels of a row stand at its number in the file of pixels.
        decided: sentences on what was decided about how images are shown.
        facts: figures on the files: sizes, modes, duplicates.
        skipped: reason -> how many files and the first of them.
        warnings: lines for the user.
        norm: of pixels, where a start asks for its own; None for that of the train images.
    """

    name: str
    class_names: tuple[str, ...]
    look: Look
    rows: Sequence[Row]
    decided: Sequence[str]
    facts: Mapping[str, Any]
    skipped: Sequence[Mapping[str, Any]]
    warnings: Sequence[str]
    norm: Norm | None = None

    @property
    def problem(self) -> str:
        """The first thing that would stop a search; empty where nothing would."""
        stops = (line.removeprefix(STOPS) for line in self.warnings if line.startswith(STOPS))
        return next(stops, "")

    def rows_of(self, split: str) -> Tensor:
        """Numbers of the rows of a split (N,)."""
        chosen = [i for i, row in enumerate(self.rows) if row.split == split]
        return torch.tensor(chosen, dtype=torch.long)

    def labels_of(self, split: str) -> Tensor:
        """Labels of the images of a split (N,)."""
        numbers = {name: i for i, name in enumerate(self.class_names)}
        labels = [numbers[row.label] for row in self.rows if row.split == split]
        return torch.tensor(labels, dtype=torch.long)

    def counts(self, split: str) -> dict[str, int]:
        """Images of each class in a split."""
        found = Counter(row.label for row in self.rows if row.split == split)
        return {name: found[name] for name in self.class_names}

    def save(self, about: Path, table: Path) -> None:
        """Write a JSON file, and a table with a line an image."""
        write_atomic(table, table_text(self.rows, COLUMNS))
        data = asdict(self)
        del data["rows"]
        if self.norm is None:  # as before there was any other
            del data["norm"]
        write_json(about, data)

    @classmethod
    def load(cls, about: Path, table: Path) -> Catalog:
        """Read what `save` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        data = read_json(about)
        try:
            with table.open(encoding="utf-8", newline="") as handle:
                rows = [Row(**row) for row in csv.DictReader(handle)]
            names = tuple(data.pop("class_names"))
            norm = data.pop("norm", None)
            norm = norm and Norm(*(tuple(norm[name]) for name in ("mean", "std")))
            look = Look(**data.pop("look"))
            return cls(class_names=names, look=look, rows=rows, norm=norm, **data)
        except OSError as error:
            raise RunError(f"{table}: cannot be read: {error.strerror}") from error
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise RunError(f"{table}: damaged: {error}") from error


def table_text(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Rows as CSV with these columns."""
    values = ([getattr(row, column) for column in columns] for row in rows)
    return "".join(map(_line, (columns, *values)))


def _line(values: Sequence[str]) -> str:
    """A line of CSV, in which either half of the usual end of a line is quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue().removesuffix("\r\n") + "\n"


def without_copies(skipped: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of files that are left out, but for copies of declared images: a warning names those."""
    return [row for row in skipped if not row["reason"].startswith(COPY)]


def skipped_rows(by_reason: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Reason, number and first names of files that are left out."""
    return [
        {"reason": reason, "count": len(names), "first": list(names[:NAMED])}
        for reason, names in by_reason.items()
    ]
