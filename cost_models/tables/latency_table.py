"""LatencyTable: measured units as a text file that survives a kill and can be read by anyone.

CSV with one line a unit and run. Lines that begin with "#" say who measured: the format, the
device's identity, and its fingerprint. Units of measure are in the names of the columns.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from ...spaces.errors import CostError, did_you_mean
from ...spaces.files import append_synced, write_atomic
from ..device import fingerprint
from ..standalone.timing import IN_TURN
from .anchors import Pace

FORMAT = 1
_TITLE = "# vitpareto latency table, format"
KINDS = ("unit", "model", "fresh", "size")


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        kind: "unit" for a sub-block, "model" for a whole network, "fresh" for one that is kept
            out of all fitting, to validate with; "size" for a sub-block that was not timed.
        key: of the unit; of a network, its candidate in canonical JSON.
        median_ms: latency with the drift of its session divided out.
        p10_ms: tenth percentile over rounds.
        p90_ms: ninetieth percentile over rounds.
        n: rounds.
        graph_bytes: size of the graph's file.
        peak_bytes: growth of a fresh process by a network; 0 where not measured.
        energy_mj: of one run above idle; 0 where no counter told.
        stable: whether the warm-up settled.
        way: how it was timed: "in turn" with others, or "one by one".
        drift: spread of the machine's speed during the session, relative.
        anchor_ms: fixed sub-blocks with large kernels, timed beside it.
        small_anchor_ms: the same with small kernels.
        coarse: how much its own kernels are like those of the large ones, from 0 to 1.
        session: names the process and set in which it was measured.
        unix_time: when, in seconds.
        samples_ms: the raw time of each round, nothing divided out.
        recipes: that a network was made with, as JSON of group -> recipe; empty where it is not
            told, and then they are those of the model that is fitted.
    """

    kind: str
    key: str
    median_ms: float
    p10_ms: float
    p90_ms: float
    n: int
    graph_bytes: int = 0
    peak_bytes: int = 0
    energy_mj: float = 0.0
    stable: bool = True
    way: str = IN_TURN
    drift: float = 0.0
    anchor_ms: float = 0.0
    small_anchor_ms: float = 0.0
    coarse: float = 1.0
    session: str = ""
    unix_time: int = 0
    samples_ms: tuple[float, ...] = ()
    recipes: str = ""

    @property
    def book(self) -> dict[str, str] | None:
        """Recipes that a network was made with; None where it is not told."""
        return json.loads(self.recipes) if self.recipes else None

    @property
    def unrest(self) -> float:
        """Relative spread of its rounds; large where something else was running."""
        return self.p90_ms / self.p10_ms - 1 if self.p10_ms > 0 else 0.0

    def speed(self, pace: Pace) -> float:
        """Speed of the machine for kernels like its own when it was timed.

        Args:
            pace: at which speed is 1.
        """
        large = _ratio(pace.large_ms, self.anchor_ms)
        small = _ratio(pace.small_ms, self.small_anchor_ms)
        return large**self.coarse * small ** (1 - self.coarse)


COLUMNS = [field.name for field in fields(Row)]
_TYPES = {field.name: field.type for field in fields(Row)}
_NEEDED = ("kind", "key", "median_ms")
_FOREIGN = (
    "not a table of `vitpareto calibrate` or of a bundle, whose first line says so. A table of "
    "another project measures other units, of which no candidate is made: read it with "
    "`vitpareto costs import`, for checks and transfer"
)


class LatencyTable:
    """Measurements of one device.

    Args:
        identity: of the device, as `Device.identity` gives it.
        rows: measurements.
    """

    def __init__(self, identity: dict[str, Any], rows: Iterable[Row] = ()) -> None:
        self.identity = identity
        self.rows = list(rows)

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of the device's identity."""
        return fingerprint(self.identity)

    def __len__(self) -> int:
        return len(self.rows)

    def of_kind(self, kind: str) -> Iterator[Row]:
        """Rows of one kind."""
        return (row for row in self.rows if row.kind == kind)

    @property
    def pace(self) -> Pace:
        """Usual times of the anchors."""
        large = sorted(row.anchor_ms for row in self.rows if row.anchor_ms > 0)
        small = sorted(row.small_anchor_ms for row in self.rows if row.small_anchor_ms > 0)
        return Pace(*(paces[len(paces) // 2] if paces else 0.0 for paces in (large, small)))

    def levels(self, rows: Iterable[Row]) -> list[float]:
        """Latencies in ms as they would be at the usual speed of the machine, by the anchors."""
        pace = self.pace
        return [row.median_ms * row.speed(pace) for row in rows]

    def append(self, rows: Iterable[Row], path: Path | None = None) -> None:
        """Add rows, in the file too: whole lines, synced, so that a kill loses none.

        Raises:
            RunError: it cannot be written.
        """
        rows = list(rows)
        self.rows += rows
        if path is None:
            return
        new = not path.exists() or path.stat().st_size == 0
        append_synced(path, (self._header() if new else "") + _lines(rows))

    def save(self, path: Path) -> None:
        """Write the whole table, atomically.

        Raises:
            RunError: it cannot be written.
        """
        write_atomic(path, self._header() + _lines(self.rows))

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read a table; a last line cut short by a kill is dropped.

        Raises:
            CostError: naming the file, the line, the rule and what was given.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise CostError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise CostError(f"{path}: {_FOREIGN}") from error
        if text and not text.endswith("\n"):
            text = text[: text.rfind("\n") + 1]
        try:
            return cls(*_parse(text))
        except CostError as error:
            raise CostError(f"{path}: {error}") from None

    def merged(self, other: LatencyTable) -> LatencyTable:
        """Rows of both.

        Raises:
            CostError: they are of different devices.
        """
        if self.fingerprint != other.fingerprint:
            raise CostError(
                f"tables of different devices: {different(self.identity, other.identity)}"
            )
        return LatencyTable(self.identity, dict.fromkeys([*self.rows, *other.rows]))

    def _header(self) -> str:
        identity = json.dumps(self.identity, sort_keys=True)
        return (
            f"{_TITLE} {FORMAT}\n"
            f"# device: {identity}\n# fingerprint: {self.fingerprint}\n{','.join(COLUMNS)}\n"
        )


def _ratio(usual_ms: float, now_ms: float) -> float:
    return usual_ms / now_ms if usual_ms > 0 and now_ms > 0 else 1.0


def quietest(rows: Iterable[Row]) -> list[Row]:
    """Select, of several measurements of a network in one way, the one whose rounds agree best."""
    ordered = sorted(rows, key=lambda row: -row.unrest)
    return list({(row.key, row.recipes, row.way): row for row in ordered}.values())


def with_footprints(
    rows: Iterable[Row], footprints: Mapping[str, tuple[float, float]]
) -> list[Row]:
    """Rows with memory and energy, each at the first row of its network.

    Args:
        rows: of networks.
        footprints: key -> growth of a process in MB, and energy of a run in mJ.
    """
    left = dict(footprints)
    filled: list[Row] = []
    for row in rows:
        growth_mb, energy = left.pop(row.key, (0.0, 0.0))
        filled.append(replace(row, peak_bytes=round(growth_mb * 1e6), energy_mj=energy))
    return filled


def different(
    left: Mapping[str, Any],
    right: Mapping[str, Any],
    here: str = "in one",
    there: str = "in the other",
) -> str:
    """The first thing in which two identities differ, as text."""
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            return f"{name} is {left.get(name)!r} {here} and {right.get(name)!r} {there}"
    return "they are equal"


def _lines(rows: Iterable[Row]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in rows:
        values = asdict(row)
        writer.writerow(map(_text, values.values()))
    return stream.getvalue()


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(int(value) if isinstance(value, bool) else value)


def _parse(text: str) -> tuple[dict[str, Any], list[Row]]:
    lines = text.splitlines()
    notes = [line for line in lines if line.startswith("#")]
    if not notes:
        raise CostError(_FOREIGN)
    identity = _identity(notes)
    body = [(i, line) for i, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not body:
        raise CostError("has no header line of column names")
    header = next(csv.reader([body[0][1]]))
    _check_header(header)
    rows: list[Row] = []
    seen: set[tuple[str, str, str]] = set()
    for (number, _), values in zip(body[1:], csv.reader(line for _, line in body[1:]), strict=True):
        row = _row(dict(zip(header, values, strict=False)), len(values) - len(header), number)
        mark = (row.kind, row.key, row.session)
        if mark in seen:
            raise CostError(f"line {number}: {row.key!r} is there twice in session {row.session!r}")
        seen.add(mark)
        rows.append(row)
    timed = [row.median_ms for row in rows if row.kind != "size"]
    if len(timed) > 3 and len(set(timed)) == 1:
        raise CostError(f"median_ms is {timed[0]:g} in every row: not a measurement")
    return identity, rows


def _identity(notes: list[str]) -> dict[str, Any]:
    header = {name.strip(): value for name, _, value in (x[1:].partition(":") for x in notes)}
    for line in notes:
        if line.startswith(_TITLE) and line.rstrip().split()[-1] != str(FORMAT):
            raise CostError(
                f"format must be {FORMAT}, got {line.rstrip().split()[-1]!r}: the table was "
                "written by another release of vitpareto"
            )
    if "device" not in header:
        raise CostError("needs a line '# device: {...}' with the identity of the device")
    try:
        identity = json.loads(header["device"])
    except json.JSONDecodeError as error:
        raise CostError(f"the line '# device:' is not JSON: {error}") from error
    if not isinstance(identity, dict):
        raise CostError(f"the line '# device:' must hold a mapping, got {identity!r}")
    if "fingerprint" in header and header["fingerprint"].strip() != fingerprint(identity):
        raise CostError(
            f"fingerprint {header['fingerprint'].strip()!r} is not that of its device line"
        )
    return identity


def _check_header(header: list[str]) -> None:
    for name in _NEEDED:
        if name not in header:
            near = [column for column in header if column.startswith(name.rpartition("_")[0])]
            hint = f"; {near[0]!r} does not say its unit" if near and name.endswith("_ms") else ""
            raise CostError(f"needs the column {name!r}, got {', '.join(header)}{hint}")
    for name in header:
        if name not in COLUMNS:
            raise CostError(f"unknown column {name!r}. {did_you_mean(name, COLUMNS)}")


def _row(values: dict[str, str], extra: int, line: int) -> Row:
    if extra:
        raise CostError(f"line {line}: {abs(extra)} values too {'many' if extra > 0 else 'few'}")
    try:
        given: dict[str, Any] = {n: _value(n, text) for n, text in values.items() if text}
        defaults: dict[str, Any] = {"p10_ms": 0.0, "p90_ms": 0.0, "n": 1}
        row = Row(**(defaults | given))
    except (ValueError, TypeError) as error:
        raise CostError(f"line {line}: {error}") from error
    if row.kind not in KINDS:
        raise CostError(f"line {line}: kind {row.kind!r} must be one of {', '.join(KINDS)}")
    for name, value in asdict(row).items():
        if isinstance(value, int | float) and not 0 <= value < inf:
            raise CostError(f"line {line}: {name} must be finite and not negative, got {value:g}")
    if not row.median_ms and row.kind != "size":
        raise CostError(f"line {line}: median_ms must be above 0, got 0")
    return row


def _value(name: str, text: str) -> Any:
    kind = str(_TYPES[name])
    if kind == "bool":
        return bool(int(text))
    if kind.startswith("tuple"):
        return tuple(map(float, text.split()))
    return {"int": int, "float": float}.get(kind, str)(text)
