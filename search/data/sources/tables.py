"""Tables: a CSV or Parquet file with the columns path, label, and perhaps split and group."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ....spaces.errors import RunError, did_you_mean, first_line
from ....spaces.packages import needed
from .listing import SPLIT_NAMES, Entry, FileReader, Listing, in_natural_order

NEEDED, ALLOWED = ("path", "label"), ("path", "label", "split", "group")
SUFFIXES = (".csv", ".parquet")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # that others write


def list_table(file: Path) -> Listing:
    """List the images of a table, whose paths are relative to its folder.

    Raises:
        RunError: it cannot be read, lacks a column or a value, has a column twice or several
            values in one, names an image twice or a split that does not exist, or has fewer than
            two classes.
        MissingPackageError: a Parquet file, and pyarrow is not installed.
    """
    rows = _parquet_rows(file) if file.suffix.lower() == ".parquet" else _csv_rows(file)
    entries, paths = list[Entry](), list[Path]()
    lines: dict[str, int] = {}
    for line, row in rows:
        where = f"data: {file}: line {line}"
        for column in ALLOWED:
            if isinstance(value := row.get(column), list | tuple | dict):  # of a Parquet file
                raise RunError(f"{where}: needs one {column} an image, got {value!r:.80}")
        name, label, split, group = (_text(row.get(column)) for column in ALLOWED)
        if not name or not label:
            raise RunError(f"{where}: needs a path and a label, got {name!r} and {label!r}")
        if split and split.casefold() not in SPLIT_NAMES:
            hint = did_you_mean(split.casefold(), SPLIT_NAMES)
            raise RunError(f"{where}: no such split {split!r}. {hint}")
        if (before := lines.setdefault(name, line)) != line:
            raise RunError(f"{where}: {name!r} is given twice, first in line {before}")
        entries.append(Entry(name, label, SPLIT_NAMES.get(split.casefold(), ""), group))
        paths.append(_path(name, file.parent))
    classes = in_natural_order(entry.label for entry in entries)
    if len(classes) < 2:
        raise RunError(
            f"data: {file}: needs images of two or more classes, has "
            f"{', '.join(map(repr, classes)) or 'none'}"
        )
    return Listing(f"table {file}", entries, classes, FileReader(paths))


def _path(name: str, folder: Path) -> Path:
    try:
        return folder / Path(name).expanduser()
    except RuntimeError:  # "~name" of nobody is a name like others
        return folder / name


def _csv_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number of the line and values by column, of every row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            _check_separator(file, handle.readline())
            handle.seek(0)
            reader = csv.DictReader(handle, strict=True)
            reader.fieldnames = _columns(file, reader.fieldnames or [])
            for row in reader:
                if None in row:
                    raise RunError(
                        f"data: {file}: line {reader.line_num}: more values than columns: put "
                        "values with commas in quotes"
                    )
                yield reader.line_num, row
    except OSError as error:
        raise RunError(f"data: {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"data: {file}: not UTF-8 text: {error.reason}") from error
    except csv.Error as error:
        raise RunError(f"data: {file}: not CSV: {error}") from error


def _check_separator(file: Path, first: str) -> None:
    """Check that a first line does not hold our columns with something else than commas between.

    Raises:
        RunError: it does.
    """
    for separator, name in SEPARATORS.items():
        columns = next(csv.reader([first], delimiter=separator), [])
        if {*NEEDED} <= {column.strip().casefold() for column in columns}:
            raise RunError(f"data: {file}: has {name} between columns: save it with commas")


def _parquet_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with needed(f"data: {file}: Parquet"):
        from pyarrow import ArrowException, parquet
    try:
        table: Any = parquet.read_table(file)
    except (OSError, ArrowException) as error:
        raise RunError(f"data: {file}: cannot be read: {first_line(error)}") from error
    table = table.rename_columns(_columns(file, table.column_names))
    yield from enumerate(table.to_pylist(), 1)


def _text(value: Any) -> str:
    """A value as text, empty where it is missing; 0 and False are values.

    A whole number has no point, also where it is a float, as all are in a column that lacks some.
    """
    if value is None or value != value:  # the latter is NaN
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


def _columns(file: Path, given: Any) -> list[str]:
    """Names of columns in small letters, of which those that are needed are there."""
    names = [str(name).strip().casefold() for name in given]
    for column in NEEDED:
        if column not in names:
            raise RunError(
                f"data: {file}: needs a first line with the columns {', '.join(NEEDED)} and "
                f"perhaps split and group, has {', '.join(map(repr, given)) or 'none'}"
            )
    for name in ALLOWED:
        if names.count(name) > 1:
            raise RunError(f"data: {file}: has the column {name!r} twice: keep one of them")
    return names
