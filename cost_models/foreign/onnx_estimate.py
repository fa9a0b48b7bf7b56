"""Estimate: costs of an arbitrary ViT-like ONNX file, from a cost model.

A piece of the graph that looks like a sub-block is predicted as that sub-block, with the kernels
that stand in it; anything else by its multiply-accumulates alone. How much of the estimate lies
within what was measured is its coverage, and its interval is as wide as for a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError
from ..predict.model import CostModel
from ..predict.unit_costs import COLUMNS, UNKNOWN_SD
from ..units.sub_block import SubBlock
from ..units.unit import unit_of
from .onnx_counting import Piece
from .onnx_kinds import WORK
from .onnx_pieces import read_pieces, stored_bytes
from .onnx_recognition import recognize

_ENERGY = ("energy_mj", "energy_low_mj", "energy_high_mj")
_LARGER = "sizes outside of those that were measured"
_SIGNED = "products of signed activations as operators of their own, slow on x86: in no recipe"
_SIGNED_SD = 1.2  # relative; measured 3.7 times slower than unsigned ones on AVX512-VNNI
_OTHER = 0.05  # of its multiply-accumulates; those that choose among tokens are in no piece
_LEAST = 0.1  # of the time of multiply-accumulates in plain layers, that any estimate is
_MOST = 0.5  # share of the time that may be guessed of operators that are not known


@dataclass(frozen=True)
class Estimate:
    """The estimate of one file.

    Attributes:
        latency_ms: of one run.
        low_ms: lower end of the 90% interval; wider outside of what was measured.
        high_ms: its upper end.
        coverage: share of the time of all pieces that lies within what was measured, 0 to 1.
        size_mb: of the file and of the weights beside it, in 10^6 bytes; None where these are
            missing.
        peak_memory_mb: growth of a process that loads and runs it; None where a piece is not
            recognized.
        pieces: kind of each piece, key of the unit it was taken for ("" for none), and ms; with
            "rest", what a network costs beside its pieces, they add up.
        energy_mj: of one run above idle, and the ends of its 90% interval, by the names of
            `Prediction`; empty where no counter told, None where a piece is not recognized.
        doubts: what does not lie within what was measured, and its share of the time.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    size_mb: float | None
    peak_memory_mb: float | None
    pieces: list[tuple[str, str, float]]
    energy_mj: Mapping[str, float | None]
    doubts: Mapping[str, float]

    def row(self) -> dict[str, Any]:
        """All costs under the names of `Prediction.row`, the coverage, and what it lacks."""
        names = ("latency_ms", "low_ms", "high_ms", "peak_memory_mb", "size_mb", "coverage")
        values = {name: getattr(self, name) for name in names} | {"inside": self.coverage == 1}
        return {**values, **self.energy_mj, "doubts": dict(self.doubts)}


def predict_onnx(model: CostModel, path: str | Path) -> Estimate:
    """Estimate what an ONNX file costs on the device of a cost model.

    Args:
        model: calibrated on the device.
        path: a file with static shapes; float32, or with weights in the forms of `recipes`.

    Raises:
        CostError: the file cannot be read, its shapes are not static or of another batch than
            the model's, nothing in it takes time, most of that is of operators that are not
            known, or the estimate is next to nothing, so far is it from what was measured.
    """
    pieces = read_pieces(Path(path))
    batch, measured = pieces[0].enters[0] if pieces else 1, int(model.identity.get("batch", 1))
    if batch != measured:
        raise CostError(f"{path}: a batch of {batch}, where the model was measured with {measured}")
    found = _Sorted.of(pieces, model, batch)
    if not any((found.known, found.rare, found.others, found.operators)):
        raise CostError(f"{path}: nothing in it is a layer")
    parts, rare = model.parts_of(found.known), model.parts_of(found.rare)
    plain = model.ms_per_mmac / 1e6 / batch  # the model counts one image of those in a run
    # What is not known is as slow for its size as what is, and no faster than plain layers.
    usual = float(parts["ms"].sum()) / found.macs if found.macs else 0.0
    rate = max(plain, usual)
    guessed = np.array([macs for _, macs in (*found.others, *found.operators)]) * rate
    parts = parts.and_others(_doubted(rare.rows[rare.index], found.rarities))
    parts = parts.and_others(_unknown(guessed))
    own, predicted = model.parts_ms(parts), model.predict_parts(parts).row(0)
    shares = own * (1 - parts["inside"]) / own.sum()
    operators = float(shares[len(shares) - len(found.operators) :].sum())
    if operators > _MOST:
        kinds = ", ".join(sorted({kind for kind, _ in found.operators}))
        raise CostError(f"{path}: {kinds}, not known, may be {operators:.0%} of its time")
    least = sum(piece.macs for piece in pieces) * plain
    if predicted["latency_ms"] < _LEAST * least:
        raise CostError(
            f"{path}: too far from what was measured: {predicted['latency_ms']:.2g} ms would be "
            f"the estimate, and its multiply-accumulates alone take about {least:.2g} ms; "
            "calibrate with a space of networks like it"
        )
    names = [(b.kind, unit_of(b, recipe).key) for b, recipe in (*found.known, *found.rare)]
    names += [("other", "")] * len(guessed)
    listed = [(*name, ms) for name, ms in zip(names, own.tolist(), strict=True)]
    size, strange = stored_bytes(Path(path)), bool(len(guessed))
    return Estimate(
        latency_ms=predicted["latency_ms"],
        low_ms=predicted["low_ms"],
        high_ms=predicted["high_ms"],
        coverage=max(0.0, 1 - float(shares.sum())),  # rounding
        size_mb=None if size is None else size / 1e6,
        peak_memory_mb=None if strange else predicted["peak_memory_mb"],
        pieces=[*listed, ("rest", "", predicted["latency_ms"] - float(own.sum()))],
        energy_mj={n: None if strange else predicted[n] for n in _ENERGY if n in predicted},
        doubts=_summed(found.reasons, shares.tolist()),
    )


@dataclass
class _Sorted:
    """Pieces by what is known of their cost.

    Attributes:
        known: sub-blocks, each with the recipe of its kernels.
        macs: multiply-accumulates of these.
        rare: sub-blocks that are computed as in no recipe, each with the closest one.
        rarities: in what these differ.
        others: of layers that are no sub-block that was measured, why, and multiply-accumulates.
        operators: kinds that are not known, and a guess of their multiply-accumulates.
    """

    known: list[tuple[SubBlock, str]] = field(default_factory=list[tuple[SubBlock, str]])
    macs: int = 0
    rare: list[tuple[SubBlock, str]] = field(default_factory=list[tuple[SubBlock, str]])
    rarities: list[str] = field(default_factory=list[str])
    others: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    operators: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    @classmethod
    def of(cls, pieces: Sequence[Piece], model: CostModel, batch: int) -> _Sorted:
        """Sort pieces of a file with a batch by what a model has measured."""
        found = cls(operators=[guess for piece in pieces for guess in piece.strange])
        for piece, block, recipe in recognize(pieces):
            kinds = ", ".join(sorted(piece.kinds & WORK))
            if block is None or unit_of(block, recipe).group not in model.groups:
                if piece.macs:
                    found.others.append((f"{kinds}: no sub-block that was measured", piece.macs))
            elif abs(piece.macs - batch * block.macs) > _OTHER * piece.macs:
                why = f"{kinds}: other multiply-accumulates than those of a {block.kind} like it"
                found.others.append((why, piece.macs))
            elif rarity := _rarity(piece, recipe):
                found.rare.append((block, recipe))
                found.rarities.append(rarity)
            else:
                found.known.append((block, recipe))
                found.macs += piece.macs
        return found

    @property
    def reasons(self) -> list[str]:
        """Why each of all is doubtful, if it is."""
        others = [why for why, _ in self.others]
        operators = [f"{kind}: not known" for kind, _ in self.operators]
        return [*[_LARGER] * len(self.known), *self.rarities, *others, *operators]


def _summed(reasons: Sequence[str], shares: Sequence[float]) -> dict[str, float]:
    """Reason -> its share, the largest first; without those that have none."""
    total: dict[str, float] = {}
    for why, share in zip(reasons, shares, strict=True):
        total[why] = total.get(why, 0.0) + share
    return dict(sorted(((w, s) for w, s in total.items() if s > 0), key=lambda item: -item[1]))


def _unknown(ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Units of which only a time is guessed."""
    rows = np.zeros((len(ms), len(COLUMNS)))
    for name, value in {"ms": ms, "sd": UNKNOWN_SD, "kind": -1}.items():
        rows[:, COLUMNS.index(name)] = value
    return rows


def _doubted(rows: NDArray[np.float64], why: Sequence[str]) -> NDArray[np.float64]:
    """Units that are computed in another way than those that were measured."""
    rows = rows.copy()
    rows[:, COLUMNS.index("sd")] = [_SIGNED_SD if w == _SIGNED else UNKNOWN_SD for w in why]
    rows[:, COLUMNS.index("inside")] = 0
    return rows


def _rarity(piece: Piece, recipe: str) -> str:
    """In what a piece differs from those that its recipe makes; empty for nothing."""
    if piece.is_signed:
        return _SIGNED
    if piece.coded:
        return f"{', '.join(sorted(piece.coded))} of integers: in no recipe"
    if piece.is_half:
        return "computed in 16 bits: in no recipe"
    if "" in piece.recipes:
        return "weights in a form that is in no recipe"
    layers = [x for x in piece.recipes if x != recipe]
    return "some layers in integers, some not: in no recipe" if layers and piece.linears else ""
