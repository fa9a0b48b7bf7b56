"""Estimate: costs of an arbitrary ViT-like ONNX file, from a cost model.

A piece of the graph that looks like a sub-block is predicted as that sub-block, with the kernels
that stand in it; anything else by its multiply-accumulates alone. How much of the estimate lies
within what was measured is its coverage, and its interval is as wide as for a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces import Block, Place, Policy
from ...spaces.errors import CostError
from ..predict.model import CostModel
from ..predict.unit_costs import COLUMNS, UNKNOWN_SD
from ..units.signature import route_flag
from ..units.sub_block import SubBlock
from ..units.unit import unit_of
from .onnx_kinds import WORK
from .onnx_pieces import Linear, Piece, choosing, read_pieces, stored_bytes

_ENERGY = ("energy_mj", "energy_low_mj", "energy_high_mj")
_LARGER = "sizes outside of those that were measured"
_SIGNED = "products of signed activations as operators of their own, slow on x86: in no recipe"
_SIGNED_SD = 1.2  # relative; measured 3.7 times slower than unsigned ones on AVX512-VNNI
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
    found = _Sorted.of(pieces, model)
    if not any((found.known, found.rare, found.others, found.operators)):
        raise CostError(f"{path}: nothing in it is a layer")
    parts, rare = model.parts_of(found.known), model.parts_of(found.rare)
    # What is not known is as slow for its size as what is, and no faster than plain layers.
    usual = float(parts["ms"].sum()) / found.macs if found.macs else 0.0
    rate = max(model.ms_per_mmac / 1e6, usual)
    guessed = np.array([macs for _, macs in (*found.others, *found.operators)]) * rate
    parts = parts.and_others(_doubted(rare.rows[rare.index], found.rarities))
    parts = parts.and_others(_unknown(guessed))
    own, predicted = model.parts_ms(parts), model.predict_parts(parts).row(0)
    shares = own * (1 - parts["inside"]) / own.sum()
    operators = float(shares[len(shares) - len(found.operators) :].sum())
    if operators > _MOST:
        kinds = ", ".join(sorted({kind for kind, _ in found.operators}))
        raise CostError(f"{path}: {kinds}, not known, may be {operators:.0%} of its time")
    least = sum(piece.macs for piece in pieces) * model.ms_per_mmac / 1e6
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
    def of(cls, pieces: Sequence[Piece], model: CostModel) -> _Sorted:
        """Sort pieces by what a model has measured."""
        found = cls(operators=[guess for piece in pieces for guess in piece.strange])
        for piece, block, recipe in recognize(pieces):
            if block is None or unit_of(block, recipe).group not in model.groups:
                if piece.macs:
                    kinds = ", ".join(sorted(piece.kinds & WORK))
                    found.others.append((f"{kinds}: no sub-block that was measured", piece.macs))
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


def recognize(pieces: Sequence[Piece]) -> list[tuple[Piece, SubBlock | None, str]]:
    """Sub-block that each piece looks like, None if it looks like none, and its kernels' recipe.

    Layers that are factored into two are not recognized.
    """
    reader = _Reader(pieces)
    for piece in pieces:
        reader.read(piece)
    return reader.recognized


class _Reader:
    """Recognizes pieces in order and remembers what later ones depend on."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._choosing = {id(pieces[i]): rows for i, rows in choosing(pieces).items()}
        plain = [piece for piece in pieces if id(piece) not in self._choosing]
        kinds: set[str] = set().union(*(piece.kinds for piece in plain))
        self.norm = next((n for n, own in _NORMS.items() if own & kinds), "batch")
        self._acts = {id(p): act for p, act in zip(plain, acts_of(plain), strict=True)}
        self.act = "gelu"  # around the piece that is read
        self.batch = pieces[0].enters[0] if pieces else 1
        self.side = self.prefix = 0
        self.recognized: list[tuple[Piece, SubBlock | None, str]] = []
        self._end = pieces[-1] if pieces else None
        self.rows = 0  # among which some were chosen last
        self.routing = ""  # how they were, until their branch is read

    def read(self, piece: Piece) -> None:
        """The next piece."""
        if id(piece) in self._choosing:
            self._choose(piece)
            return
        self.act = self._acts[id(piece)]
        if piece.is_branch:
            block = self._mlp(piece) or self._grid_mixer(piece) or self._attention(piece)
            self.routing = ""
        elif piece is self._end:
            block = self._head(piece)
        elif not self.side:
            block = self._stem(piece)
        elif not piece.convolutions and not piece.linears:
            self._drop(piece)
            return
        else:
            block = self._downsample(piece)
        self.recognized.append((piece, block, recipe_of(piece)))

    def _choose(self, piece: Piece) -> None:
        """Remember among how many rows, and how, some are chosen; dropped ones are none of them."""
        self.rows = self._choosing[id(piece)] // self.batch
        if len(piece.enters) == 3 and not piece.scattered:
            self._keep(piece, self.rows - self.prefix)
        self.routing = "learned" if (1 in {x.outputs for x in piece.linears}) else "random"

    def _place(self, block: Block, shape: Sequence[int]) -> Place:
        rows, width = (shape[1], shape[2]) if len(shape) == 3 else (self.side**2, shape[1])
        tokens = rows - self.prefix
        grid = self.side, self.side
        return Place(block, width, grid, self.prefix, tokens, tokens, act=self.act)

    def _bare(self, shape: Sequence[int]) -> Place:
        return self._place(Block("pool" if len(shape) == 4 else "softmax"), shape)

    def _sub_block(self, kind: str, variant: str, place: Place, *flags: str) -> SubBlock:
        return SubBlock(kind, place, Policy(), self.norm, variant, flags=flags)

    def _stem(self, piece: Piece) -> SubBlock | None:
        first, last = piece.convolutions[:1], piece.convolutions[-1:]
        if not first or piece.linears or len(piece.leaves) not in (3, 4):
            return None
        self.side = isqrt(last[0].positions)
        if len(piece.leaves) == 3:
            self.prefix = piece.leaves[1] - self.side**2
        tables = [shape for shape in piece.added if len(shape) == 3 and shape[1] > 1]
        normed = piece.kinds & {kind for kinds in _NORMS.values() for kind in kinds}
        flags = ["pos"] * bool(tables) + ["norm"] * bool(normed)
        variant = "patch" if len(piece.convolutions) == 1 else "conv"
        stem = self._sub_block("stem", variant, self._bare(piece.leaves), *flags)
        patch = piece.enters[-1] // self.side
        return replace(stem, inputs=first[0].inputs, patch_size=patch)

    def _downsample(self, piece: Piece) -> SubBlock | None:
        layers = len(piece.convolutions), len(piece.linears)
        if layers == (1, 0):
            [conv] = piece.convolutions
            positions, inputs = conv.positions, conv.inputs
            variant = "patch" if conv.kernel == 2 else "conv"
        elif layers == (0, 1) and piece.linears[0].inputs % 4 == 0:
            positions, inputs, variant = (
                piece.linears[0].rows,
                piece.linears[0].inputs // 4,
                "merge",
            )
        else:
            return None
        self.side = isqrt(positions)
        place = self._bare(piece.leaves)
        return replace(self._sub_block("downsample", variant, place), inputs=inputs)

    def _drop(self, piece: Piece) -> None:
        """Add the dropping of tokens to the mixer before it, to which it belongs."""
        if len(piece.leaves) == 3 and not piece.scattered:
            self._keep(piece, piece.leaves[1] - self.prefix)

    def _keep(self, piece: Piece, kept: int) -> None:
        if not self.recognized:
            return
        mixer, block, recipe = self.recognized[-1]
        if block is None or block.kind != "mixer" or kept == block.place.tokens:
            return
        flag = "evit" if piece.products else "random"  # of what is fused
        place = replace(block.place, kept=kept)
        self.recognized[-1] = mixer, replace(block, place=place, flags=(*block.flags, flag)), recipe

    def _head(self, piece: Piece) -> SubBlock | None:
        if piece.convolutions or piece.products or len(piece.linears) not in (1, 2):
            return None
        two = "distill" if self.prefix else "avg_distill"
        plain = two if len(piece.linears) == 2 else "avg"
        variant = "token" if plain == "avg" and "Gather" in piece.kinds else plain
        enters = piece.enters
        place = self._bare([enters[0], self.rows, enters[2]] if piece.scattered else enters)
        head = self._sub_block("head", variant, place)
        return replace(head, outputs=piece.linears[0].outputs)

    def _mlp(self, piece: Piece) -> SubBlock | None:
        """Two layers that widen and narrow again, on tokens, on a grid, or across tokens."""
        dense = [c for c in piece.convolutions if c.kernel == 1]
        if len(dense) == 2 == len(piece.convolutions) and not piece.linears:
            mixer = "conv_mlp" if self._lacks_norm(piece) else "pool"
            place = self._place(Block(mixer, mlp_hidden=dense[0].outputs), piece.enters)
            if mixer == "pool":
                return self._fed("mlp", "conv", place)
            return self._sub_block("mixer", mixer, place)
        if len(piece.linears) != 2 or piece.products or piece.convolutions:
            return None
        first, second = piece.linears
        if (first.inputs, first.outputs) != (second.outputs, second.inputs):
            return None
        if "Transpose" in piece.kinds and first.length == piece.enters[-1]:
            block = Block("token_mlp", token_hidden=first.outputs)
            place = self._place(block, piece.enters)
            return self._sub_block("mixer", "token_mlp", place, *_scale(piece))
        place = self._place(Block(mlp_hidden=first.outputs), piece.enters)
        return self._fed("mlp", "mlp", place)

    def _lacks_norm(self, piece: Piece) -> bool:
        """Whether there is no norm in it, nor one that its layers could have taken in."""
        return self.norm in _NORMS and not _NORMS[self.norm] & piece.kinds

    def _fed(self, kind: str, variant: str, place: Place) -> SubBlock:
        """Attention or an MLP of all tokens, or of those that were chosen just before."""
        if not self.routing:
            return self._sub_block(kind, variant, place)
        tokens, chosen = self.rows - self.prefix, place.tokens
        among = replace(place, tokens=tokens, kept=tokens)
        routed = replace(among, mixed=chosen) if kind == "mixer" else replace(among, routed=chosen)
        return self._sub_block(kind, variant, routed, route_flag(kind, self.routing))

    def _grid_mixer(self, piece: Piece) -> SubBlock | None:
        """Average pooling, or an inverted bottleneck."""
        if piece.linears or piece.products:
            return None
        if not piece.convolutions and "AveragePool" in piece.kinds:
            mixer = "pool_raw" if self._lacks_norm(piece) else "pool"
            place = self._place(Block(mixer), piece.enters)
            return self._sub_block("mixer", mixer, place, *_scale(piece))
        if len(piece.convolutions) != 3:
            return None
        first, middle, _ = piece.convolutions
        if middle.groups != first.outputs:
            return None
        block = Block("mbconv", kernel_size=middle.kernel, mlp_hidden=first.outputs)
        return self._sub_block("mixer", "mbconv", self._place(block, piece.enters))

    def _attention(self, piece: Piece) -> SubBlock | None:
        """Attention, its queries, keys and values in one layer or in three."""
        if len(piece.linears) not in (2, 4) or not piece.products:
            return None
        last = piece.linears[-1]
        if last.outputs != piece.enters[-1]:
            return None
        relative = False
        if "Softmax" not in piece.kinds:
            block = self._linear_attention(piece)
        elif piece.convolutions:
            block = None
        elif piece.rank >= 6:  # rows and columns of windows, and of tokens in them
            heads = piece.products[0].batch * last.length // last.rows
            keys, values = piece.products[0].inner, last.inputs // heads
            block = Block(
                "window",
                num_heads=heads,
                head_dim=keys,
                value_dim=0 if values == keys else values,
                window_size=isqrt(last.length),
                shift="Concat" in piece.kinds,
            )
            table = [heads, last.length, last.length]
            relative = any(shape[-3:] == table for shape in piece.added)
        else:
            block = self._global_attention(piece)
        if block is None:
            return None
        place = replace(self._place(block, piece.enters), relative=relative)
        return self._fed("mixer", block.mixer, place)

    def _linear_attention(self, piece: Piece) -> Block | None:
        if len(piece.products) != 3 or len(piece.convolutions) != 1:
            return None
        (depthwise,), heads = piece.convolutions, piece.products[0].batch // self.batch
        if depthwise.groups != depthwise.outputs:
            return None
        return Block("linear", **_heads(heads, piece.linears[-1]), kernel_size=depthwise.kernel)

    def _global_attention(self, piece: Piece) -> Block | None:
        """All tokens as queries; keys are all tokens too, or pooled ones, or shared by heads."""
        *inner, last = piece.linears
        if last.length != piece.enters[1]:
            return None
        heads = piece.products[0].batch // self.batch
        given = _heads(heads, last)
        if piece.products[0].inner != given["head_dim"]:  # values wider than keys
            return None
        keys = min(inner, key=lambda layer: (layer.rows, layer.outputs))  # as many, or fewer
        if keys.rows < last.rows:
            pooled = isqrt(keys.length - self.prefix)
            return Block("pooled", **given, kv_pool=-(-self.side // pooled))
        if len(inner) == 3 and keys.outputs < last.inputs:
            return Block("grouped", **given, kv_heads=keys.outputs // given["head_dim"])
        return Block("softmax", **given)


def acts_of(pieces: Sequence[Piece]) -> list[str]:
    """Activation of each piece, or where it has none that of its stage: of the next, or the last.

    It is the one that most elements pass through: a gate of squeeze-and-excitation, a sigmoid too,
    sees one a channel. ReLU before a product of activations belongs to linear attention.
    """
    acts = ["" if p.products or not p.acts else p.acts.most_common(1)[0][0] for p in pieces]
    for order, act in ((reversed(range(len(acts))), ""), (range(len(acts)), "gelu")):
        for i in order:
            acts[i] = act = acts[i] or act
    return acts


def _heads(heads: int, last: Linear) -> dict[str, Any]:
    """Numbers of attention whose last layer reads the heads side by side."""
    return {"num_heads": heads, "head_dim": last.inputs // heads}


def _scale(piece: Piece) -> list[str]:
    """A layer scale that no linear layer could take in is the last thing before the Add."""
    return ["scale"] * (piece.last == "Mul")


def recipe_of(piece: Piece) -> str:
    """The recipe whose kernels a piece has."""
    others = [recipe for recipe in piece.recipes if recipe not in ("", "float")]
    return max(others, key=others.count) if others else "float"


_NORMS = {
    "layer": {"LayerNormalization"},
    "group": {"InstanceNormalization", "GroupNormalization"},
    "rms": {"RMSNormalization", "Sqrt", "Reciprocal"},
}
