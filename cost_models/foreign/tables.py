"""Importers: public latency tables in the terms of this package's regressors.

A foreign table says what was measured in words of its own; here each row becomes physical terms,
coordinates and a latency, so that the same regressors, transfer and checks apply.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf, log2
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError

Array = NDArray[np.float64]
Features = tuple[dict[str, float], dict[str, float]]


@dataclass(frozen=True)
class ForeignTable:
    """Foreign measurements, in the order of their file.

    Attributes:
        source: where they come from.
        keys: name of each row.
        groups: rows that share a predictor.
        terms: physical terms of each row.
        numbers: coordinates of each row.
        ms: device -> latency of each row, NaN where there is none.
        spread: device -> relative standard deviation that the table itself gives.
    """

    source: str
    keys: list[str]
    groups: list[str]
    terms: list[dict[str, float]]
    numbers: list[dict[str, float]]
    ms: dict[str, Array]
    spread: dict[str, Array]

    def rows(self, where: NDArray[np.bool_] | NDArray[np.intp]) -> ForeignTable:
        """Some of the rows."""
        at = np.flatnonzero(where) if where.dtype == bool else where
        return replace(
            self,
            **{
                n: [getattr(self, n)[i] for i in at] for n in ("keys", "groups", "terms", "numbers")
            },
            ms={device: values[at] for device, values in self.ms.items()},
            spread={device: values[at] for device, values in self.spread.items()},
        )

    def measured(self) -> ForeignTable:
        """The same, NaN also where a value is no latency: at or below 0, or infinite."""
        known = {device: (values > 0) & (values < inf) for device, values in self.ms.items()}

        def kept(columns: Mapping[str, Array]) -> dict[str, Array]:
            return {name: np.where(known[name], column, np.nan) for name, column in columns.items()}

        return replace(self, ms=kept(self.ms), spread=kept(self.spread))

    def of_group(self, group: str) -> ForeignTable:
        """Rows of one group."""
        return self.rows(np.array([name == group for name in self.groups]))

    def __len__(self) -> int:
        return len(self.keys)


def read_nnmeter_blocks(path: str | Path) -> ForeignTable:
    """nn-Meter's ViT block tables (branch dev/hybrid-transformer): TFLite on phones.

    Args:
        path: a CSV with device, key, latency_ms and block columns, or its own flat JSON of
            {key: ms} for one phone.

    Raises:
        CostError: not such a table.
    """
    path = Path(path)
    if path.name.endswith(".json"):
        flat = _json(path)
        rows = [{"device": path.stem, "key": k, "latency_ms": str(v)} for k, v in flat.items()]
    else:
        rows = _csv(path, ("device", "key", "latency_ms"))
    latencies: dict[tuple[str, int], dict[str, float]] = {}  # a repeated key is one more row
    times = Counter[tuple[str, str]]()
    for row in rows:
        key, device = row["key"], row["device"]
        latencies.setdefault((key, times[key, device]), {})[device] = float(row["latency_ms"])
        times[key, device] += 1
    marks = [mark for mark in latencies if mark[0].partition("_")[0] in _NNMETER]
    kept = [key for key, _ in marks]
    features = [_NNMETER[key.partition("_")[0]](key.split("_")) for key in kept]
    return ForeignTable(
        *(str(path), kept, [key.partition("_")[0] for key in kept]),
        *([t for t, _ in features], [n for _, n in features]),
        {
            device: np.array([latencies[mark].get(device, np.nan) for mark in marks])
            for device in sorted({device for _, device in times})
        },
        {},
    )


def read_hat(path: str | Path) -> ForeignTable:
    """HAT's encoder-decoder Transformers, in the order in which they were measured.

    Raises:
        CostError: not such a table.
    """
    rows = _csv(Path(path), ("encoder_embed_dim", "latency_mean_decoder"))
    numbers = [{k: float(v) for k, v in row.items() if not k.startswith("latency")} for row in rows]
    means = np.array([[float(row[f"latency_mean_{p}"]) for p in _HAT] for row in rows])
    sds = np.array([[float(row[f"latency_std_{p}"]) for p in _HAT] for row in rows])
    device = Path(path).name.partition(".")[0]
    return ForeignTable(
        str(path),
        [str(index) for index in range(len(rows))],
        ["transformer"] * len(rows),
        [_hat_terms(item) for item in numbers],
        numbers,
        {device: means.sum(1)},
        {device: _relative(np.sqrt((sds**2).sum(1)), means.sum(1))},
    )


def read_matrix(path: str | Path, group: str = "model") -> ForeignTable:
    """Tables of HELP or mobile-ml-benchmark: one line a model, one column a device.

    Columns that end in "|mean" are microseconds with a "|std" beside them; all other numeric
    columns are milliseconds.

    Raises:
        CostError: not such a table.
    """
    rows = _csv(Path(path), ())
    if not rows:
        raise CostError(f"{path}: has no rows")
    names = list(rows[0])
    means = [name for name in names if name.endswith("|mean")]
    about = {"idx", "model", "arch", "arch_str", "arch_ops", "flops", "FLOPS", "size"}
    unit, devices = (1e-3, means) if means else (1.0, [n for n in names if n not in about])
    key = next((name for name in ("model", "arch_str", "arch_ops", "arch") if name in names), "")
    if not key or not devices:
        raise CostError(f"{path}: needs a column that names models, and columns of devices")
    ms = {name.removesuffix("|mean"): _column(path, rows, name) * unit for name in devices}
    spread = {
        name.removesuffix("|mean"): _relative(
            _column(path, rows, name.removesuffix("mean") + "std"), _column(path, rows, name)
        )
        for name in means
    }
    work = next((name for name in ("flops", "FLOPS") if name in names), "")
    terms = [{"calls": 1.0} | ({"macs": float(r[work]) / 1e6} if work else {}) for r in rows]
    keys = [row[key] for row in rows]
    return ForeignTable(str(path), keys, [group] * len(rows), terms, [{} for _ in rows], ms, spread)


READERS: Mapping[str, Callable[[Path], ForeignTable]] = {
    "nnmeter": read_nnmeter_blocks,
    "hat": read_hat,
    "matrix": read_matrix,
}


def read_table(path: Path, form: str) -> ForeignTable:
    """A table in one of the formats of `READERS`.

    Raises:
        CostError: it cannot be read, is not of that format, or has no row.
    """
    try:
        table = READERS[form](path)
    except CostError:
        raise
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise CostError(f"{path}: not a table of the format {form!r}: {error}") from error
    if not len(table):
        raise CostError(f"{path}: no row is one of the format {form!r}")
    return table


def read_measured(path: Path) -> dict[str, float]:
    """Key -> latency in ms, of a CSV with the columns key and latency_ms; repeats are averaged.

    Raises:
        CostError: it cannot be read, or a latency is not a number above 0.
    """
    latencies = defaultdict[str, list[float]](list)
    for line, row in enumerate(_csv(path, ("key", "latency_ms")), 2):
        try:
            latency = float(row["latency_ms"])
        except (TypeError, ValueError):
            latency = 0.0
        if not 0 < latency < inf:
            raise CostError(
                f"{path}: line {line}: latency_ms must be above 0, got {row['latency_ms']!r}"
            )
        latencies[row["key"]].append(latency)
    return {key: fmean(repeats) for key, repeats in latencies.items()}


_HAT = ("encoder", "decoder")


def _hat_terms(x: Mapping[str, float]) -> dict[str, float]:
    """Layers, attention and feed-forward of encoder and decoder; only averages are known."""
    enc, dec = x["encoder_embed_dim"], x["decoder_embed_dim"]
    e, d = x["encoder_layer_num"], x["decoder_layer_num"]
    return {
        "calls": 1.0,
        "encoder_layers": e,
        "decoder_layers": d,
        "encoder_width": e * enc / 1e3,
        "decoder_width": d * dec / 1e3,
        "encoder_square": e * enc * enc / 1e6,
        "encoder_heads": e * x["encoder_self_attention_heads_avg"],
        "encoder_hidden": e * enc * x["encoder_ffn_embed_dim_avg"] / 1e6,
        "decoder_hidden": d * dec * x["decoder_ffn_embed_dim_avg"] / 1e6,
        "decoder_square": d * dec * dec / 1e6,
        "decoder_heads": d * x["decoder_self_attention_heads_avg"],
        "cross_square": d * enc * dec / 1e6,  # keys and values of what the encoder gives
        "cross_heads": d * x["decoder_ende_attention_heads_avg"],
        "cross_inputs": d * x["decoder_arbitrary_ende_attn_avg"],
        "vocabulary": dec / 1e3,
    }


def _convolution(hw: int, cin: int, cout: int, stride: int, expand: int, kernel: int) -> Features:
    """An inverted residual, or with expansion 0 a plain convolution."""
    out, hidden = (-(-hw // stride)) ** 2, cin * expand
    inner = hw * hw
    terms = {"calls": 1.0, "tokens": inner / 1e6}
    if expand:
        terms |= {
            "expand_macs": (inner * cin * hidden / 1e6) if expand > 1 else 0.0,
            "depthwise_macs": out * hidden * kernel * kernel / 1e6,
            "project_macs": out * hidden * cout / 1e6,
            "elements": (inner + out) * hidden / 1e6,
            "weights": hidden * (cin + cout + kernel * kernel) / 1e6,
            "channels": hidden / 1e3,
        }
    else:
        terms |= {
            "conv_macs": out * cin * cout * kernel * kernel / 1e6,
            "elements": out * cout / 1e6,
        }
    numbers = {
        "hw": log2(hw), "cin": log2(cin), "cout": log2(cout), "stride": float(stride),
        "expand": log2(expand) if expand else 0.0, "kernel": float(kernel),
    }  # fmt: skip
    return terms, numbers


def _nnmeter_conv(key: list[str]) -> Features:
    hw, cin, cout, expand, stride = (int(part) for part in key[1:6])
    terms, numbers = _convolution(hw, cin, cout, stride, expand, int(key[-2]))
    excited = float(key[-1] == "se")
    terms |= {"se": excited, "se_weights": excited * (cin * expand) ** 2 / 4e6}
    terms |= {"se_elements": excited * terms["elements"], "relu": float("hard" not in key)}
    return terms, numbers | {"se": excited, "act": float("hard" in key)}


def _nnmeter_first(key: list[str]) -> Features:
    hw, cin, cout, stride, kernel = (int(part) for part in key[1:6])
    return _convolution(hw, cin, cout, stride, 0, kernel)


def _nnmeter_down(key: list[str]) -> Features:
    hw, cin, cout, stride, expand = (int(part) for part in key[1:6])
    return _convolution(hw, cin, cout, stride, expand, 3)


def _nnmeter_pool(key: list[str]) -> Features:
    hw, cin, cout, expand = (int(part) for part in key[1:5])
    terms, numbers = _convolution(hw, cin, cout, 1, expand, 1)
    return terms, numbers


def _nnmeter_attention(key: list[str]) -> Features:
    """Heads of 16 channels, values `v` times as wide (ElasticViT)."""
    hw, width, scale = int(key[1]), int(key[2]), int(key[-2])
    rows, heads = hw * hw, width / 16
    terms = {
        "calls": 1.0,
        "linear_macs": rows * width * width * (2 + 2 * scale) / 1e6,
        "matmul_macs": rows * rows * width * (1 + scale) / 1e6,
        "scores": rows * rows * heads / 1e6,
        "elements": rows * width * (3 + 2 * scale) / 1e6,
        "values": rows * width * scale / 1e6,
        "weights": width * width * (2 + 2 * scale) / 1e6,
        "heads": heads,
    }
    return terms, {"hw": log2(hw), "width": log2(width), "v": log2(scale), "heads": log2(heads)}


def _nnmeter_mlp(key: list[str]) -> Features:
    hw, width, expand = int(key[1]), int(key[2]), int(key[3])
    rows, hidden = hw * hw, width * expand
    terms = {
        "calls": 1.0,
        "linear_macs": 2 * rows * width * hidden / 1e6,
        "hidden": rows * hidden / 1e6,
        "elements": rows * width / 1e6,
        "weights": 2 * width * hidden / 1e6,
        "channels": hidden / 1e3,
    }
    return terms, {"hw": log2(hw), "width": log2(width), "hidden": log2(hidden)}


_NNMETER: dict[str, Callable[[list[str]], Features]] = {
    "firstconv": _nnmeter_first,
    "conv": _nnmeter_conv,
    "transds": _nnmeter_down,
    "transattn": _nnmeter_attention,
    "transffn": _nnmeter_mlp,
    "mbpool": _nnmeter_pool,
}


def _column(path: str | Path, rows: list[dict[str, str]], name: str) -> Array:
    try:
        return np.array([float(row[name]) if row.get(name) else np.nan for row in rows])
    except ValueError as error:
        raise CostError(f"{path}: column {name!r}: {error}") from error


def _relative(sds: Array, means: Array) -> Array:
    """Standard deviations in shares of their means, where there are any."""
    return np.divide(sds, means, out=np.full_like(means, np.nan), where=means > 0)


def _csv(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        packed = path.suffix == ".gz"
        # Spreadsheets begin with a mark.
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")  # cells that a line ends without
            for name in needed:
                if name not in (reader.fieldnames or ()):
                    raise CostError(
                        f"{path}: needs the column {name!r}, got {list(reader.fieldnames or ())}"
                    )
            rows = list[dict[str, str]]()
            for row in reader:
                if None in row:
                    raise CostError(f"{path}: line {reader.line_num}: more values than columns")
                rows.append(row)
            return rows
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CostError(f"{path}: cannot be read: {reason}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CostError(f"{path}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise CostError(f"{path}: need one mapping of keys to ms, got a {type(data).__name__}")
    return data
