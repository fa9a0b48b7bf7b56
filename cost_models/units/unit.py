"""Unit: the part of a sub-block that matters to its cost, as key, physical terms and numbers.

A unit is a sub-block together with the recipe that runs it. Parts that the export folds away
(layer scale) or that no dense kernel sees (zeros) are dropped, so that equal work has one key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import zip_longest
from math import log2
from typing import Any

import numpy as np

from ...spaces import Place, Policy, Scalar
from ...spaces.architecture import HALVING, TOKEN_REDUCTIONS
from ...spaces.errors import CostError
from ...spaces.ops import Op
from ...spaces.transforms import policy_transforms
from .operations import count_ops
from .precision_recipes import Recipe, find_recipe
from .signature import ROUTES
from .sub_block import SubBlock

_DENSE = Policy()
# Kinds of operation whose time is that of their products, beside what they move.
_MACS = {
    kind: (f"{kind}_macs", f"{kind}_elements") for kind in ("linear", "conv", "depthwise", "matmul")
}

# Flags that say that some tokens are chosen, which takes time of its own.
_CHOOSING = {*TOKEN_REDUCTIONS, *ROUTES["mixer"], *ROUTES["mlp"]}


@dataclass(frozen=True)
class Unit:
    """One piece of work that can be measured.

    Attributes:
        block: the sub-block, with nothing in it that has no effect on its cost.
        recipe: how its weights are stored and computed.
    """

    block: SubBlock
    recipe: str

    @property
    def key(self) -> str:
        """Canonical text that names the unit in tables."""
        return f"{self.block.key}@{self.recipe}"

    @property
    def group(self) -> str:
        """Units that share a predictor: kind, variant and recipe."""
        return f"{self.block.kind}/{self.block.variant}@{self.recipe}"

    @cached_property
    def ops(self) -> list[Op]:
        """Operations for one image."""
        return count_ops(self.block)

    def run_as(self, recipe: str) -> Unit:
        """The same work with the kernels of another recipe."""
        if recipe == self.recipe:
            return self
        other = Unit(self.block, recipe)
        other.__dict__["ops"] = self.ops  # counted once
        return other

    @cached_property
    def peak_bytes(self) -> float:
        """Activations that live at once inside, in bytes for one image.

        The residual stream stays while the branch runs; beside it live what an operation reads
        and what it writes.
        """
        block, place = self.block, self.block.place
        stream = 0
        if block.kind in ("mixer", "mlp"):
            stream = (place.prefix + place.tokens) * place.width
        return 4.0 * (stream + reduce(_larger, (op.reads + op.writes for op in self.ops), 0))

    @cached_property
    def terms(self) -> dict[str, float]:
        """Physical terms, each of which can only add time.

        In millions: multiply-accumulates by kind of kernel, elements by kind of pass, bytes of
        weights; and a constant for the calls themselves.
        """
        terms = {"calls": 1e6}
        norm = f"{self.block.norm}_norm"
        for op in self.ops:
            if op.kind == "constant":
                continue
            kind, moved = op.kind, op.reads + op.writes
            if kind in _MACS or some(op.macs):
                macs, kind = _MACS.get(kind) or (f"{kind}_macs", f"{kind}_elements")
                terms[macs] = terms.get(macs, 0.0) + op.macs
            elif kind == "norm":
                kind, moved = norm, op.reads
            terms[kind] = terms.get(kind, 0.0) + moved
        for name in terms:
            terms[name] /= 1e6
        if some(self.act_elements):
            terms[self.block.place.act] = self.act_elements / 1e6
        terms["weight_bytes"] = self.weight_bytes / 1e6
        for flag in self.block.flags:
            if flag in _CHOOSING:
                terms[flag] = 1.0
        return terms

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Coordinates for interpolation: logarithms of shapes, 0 or 1 for named choices."""
        b, place = self.block, self.block.place
        shapes = {
            "rows": place.prefix + place.tokens,
            "grid": place.grid[0] if place.grid[0] > 1 else 0,
            "width": place.width,
            "inputs": b.inputs,
            "outputs": b.outputs,
            "patch_size": b.patch_size,
            "pool_heads": b.pool_heads,
            "pool_hidden": b.pool_hidden,
            **(b.described.located(place) if b.described else {}),
            "mlp_hidden": place.block.mlp_hidden,
        }
        coordinates = dict(
            _coordinate(name, value) for name, value in shapes.items() if some(value)
        )
        coordinates["kept"] = place.kept / place.tokens
        if b.is_routed:
            coordinates["routed"] = b.fed_tokens / place.tokens
        coordinates["rank"] = 1.0  # but for a transform that says otherwise
        for name, value in b.policy.others:
            number = not isinstance(value, str)
            name = policy_transforms()[name].coordinate or name
            coordinates[name if number else f"{name}={value}"] = float(value) if number else 1.0
        for name in (f"norm={b.norm}", f"act={place.act}", *b.flags, *self.flags):
            coordinates[name] = 1.0
        return coordinates

    @property
    def act_elements(self) -> Any:
        """Elements that pass through an activation function."""
        place, mixer = self.block.place, self.block.mixer
        if self.block.kind == "mlp":
            return self.block.fed_rows * place.block.mlp_hidden
        return mixer.act_elements(self.block.seen) if mixer else 0

    @property
    def flags(self) -> tuple[str, ...]:
        """Named choices of its mixer that change its time."""
        own = self.block.mixer.flags(self.block.place) if self.block.mixer else ()
        return (*own, "relative") if self.block.is_relative else own

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Further choices of its mixer that change the nodes of its graph."""
        return nodes_of(self.block)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all constants as the recipe stores them, scales included; exact.

        Depthwise kernels, biases, norms and tables stay in float32.
        """
        recipe = find_recipe(self.recipe)
        ops = self.ops
        total, taken = 0, False
        for op, after in zip_longest(ops, ops[1:]):
            if op.norm in ("batch", "affine"):
                # Folded into its neighbor; or left, with running statistics beside its scale.
                left = 8 if op.norm == "batch" else 4
                total += 0 if taken or _is_folded(self.block) else left * op.others
                continue
            taken = after is not None and after.norm == "batch" and _folds(self.block, op)
            if op.kind == "constant":
                total += 4 * op.writes
                continue
            total += 4 * op.others
            if taken and after is not None:
                bias = after.others // 2  # a folded batch norm leaves one behind
                total += 4 * bias
            else:
                bias = op.others
            if some(op.weights):
                total += _stored_bytes(op, recipe)
            if some(bias) and op.kind == "conv" and recipe.activations == "static":
                total += _scale_bytes(op.shape[2], recipe)  # of an integer bias
        return total


def some(value: Any) -> bool:
    """Whether a number, or all of an array of alike ones (see `vectorized`), is not 0."""
    return bool(value.any()) if isinstance(value, np.ndarray) else bool(value)


def _coordinate(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        return f"{name}={value}", 1.0
    if isinstance(value, bool):
        return name, 1.0
    return name, np.log2(value) if isinstance(value, np.ndarray) else log2(value)


def _larger(a: Any, b: Any) -> Any:
    return np.maximum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else max(a, b)


def _folds(block: SubBlock, op: Op) -> bool:
    """Whether an operation is a layer that takes in the batch norm after it."""
    is_patch = block.kind == "stem" and block.variant not in HALVING
    layers = ("conv", "depthwise", "linear")
    return op.kind in layers and not some(op.others) and not is_patch


def _is_folded(block: SubBlock) -> bool:
    """Whether the layers after the sub-block's own norm take it in."""
    mixer = block.mixer
    if mixer:
        takes = bool(mixer.readers) and not mixer.pads(block.place)
    else:
        layers = block.outputs > 0 or block.place.block.mlp_hidden > 0
        takes = layers if block.kind == "head" else block.kind != "stem"
    return block.norm in ("batch", "affine") and takes


def _stored_bytes(op: Op, recipe: Recipe) -> int:
    """Bytes of an op's matrix or kernel, and of its scales."""
    if op.kind not in ("linear", "conv") or recipe.weights == 32:
        return 4 * op.weights
    if recipe.weights == 16:
        return 2 * op.weights
    _, inputs, outputs = op.shape
    if recipe.layout == "blocks" and op.kind == "linear":
        return outputs * -(-inputs // recipe.block) * (recipe.block // 2 + 4)
    return -(-op.weights * recipe.weights // 8) + _scale_bytes(outputs, recipe)


def _scale_bytes(outputs: int, recipe: Recipe) -> int:
    """Bytes of a scale for each channel; a lone one counts among what else a graph holds."""
    return 0 if recipe.layout == "tensor" else 4 * outputs


def nodes_of(block: SubBlock) -> tuple[str, ...]:
    """Choices of a mixer that change the nodes of its graph, beside its flags."""
    return block.mixer.nodes(block.place) if block.mixer else ()


def unit_of(block: SubBlock, recipe: str) -> Unit:
    """The unit that a sub-block becomes with a recipe."""
    scaled = block.mixer is not None and not block.mixer.last
    b = SubBlock(
        block.kind,
        _gridless(block.place) if _is_gridless(block) else block.place,
        _counted(block.policy.others) if block.policy.others else _DENSE,
        block.norm,
        block.variant,
        block.inputs,
        block.outputs,
        block.patch_size,
        block.flags if scaled else tuple(flag for flag in block.flags if flag != "scale"),
        block.pool_heads,
        block.pool_hidden,
    )
    return Unit(b, recipe)


@lru_cache(maxsize=1 << 12)
def _counted(fields: tuple[tuple[str, Scalar], ...]) -> Policy:
    """A policy of those fields that change what is computed."""
    return Policy(others=fields).only(lambda transform: transform.ops is not None)


def parse_unit(key: str) -> Unit:
    """Inverse of `Unit.key`.

    Raises:
        CostError: the text is not a key.
        UnknownNameError: no such recipe.
    """
    block, at, recipe = key.rpartition("@")
    if not at:
        raise CostError(f"not the key of a sub-block with its recipe: {key!r}")
    return unit_of(SubBlock.parse(block), find_recipe(recipe).name)


def _is_gridless(block: SubBlock) -> bool:
    """Whether only the number of rows matters, not how they are arranged."""
    if block.layout != "tokens" or block.place.kept != block.place.tokens or block.is_routed:
        return False
    mixer = block.mixer
    return block.kind == "mlp" or (mixer is not None and not mixer.uses_grid(block.place.block))


def _gridless(place: Place) -> Place:
    rows = place.prefix + place.tokens
    return Place(place.block, place.width, (1, 1), 0, rows, rows, act=place.act)
