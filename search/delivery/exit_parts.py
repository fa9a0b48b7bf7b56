"""Exit parts: files that hand over, and the rule by which one of them answers, beside a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ...cost_models import Device
from ...cost_models.graphs.to_onnx import OUTPUT, to_onnx
from ...cost_models.hand_over import check_hand_over
from ...spaces import Candidate
from ...spaces.errors import RunError
from ...spaces.exits import blocks_before, has_exits
from ...spaces.networks.parts import input_shapes, parts_of
from ..data.balance import class_weights
from ..data.dataset import Split
from ..pareto.objectives import MAXIMIZED
from ..store.atomic_files import read_json, write_json
from .build import Build
from .formats.onnx import encode_graph
from .leaving import Point, TradeOff, best_of
from .preprocessing import Preprocessing
from .program.onnxruntime import EXITS, PART

STREAM = "stream"  # what a part hands over


@dataclass(frozen=True, slots=True)
class Rule:
    """When which part answers, and what was known of it before any part was measured.

    Attributes:
        after: blocks of the whole network that run before each exit.
        above: confidence of each exit from which on it answers.
        shares: of the validation images that each part answers, by torch.
        accuracy: share of them that is right so.
        whole_accuracy: share that is right where nobody leaves.
        drop: by how much that may fall.
        curve: what other thresholds come to: accuracy, mean time relative to that of an image that
            runs through all parts, and shares, the cheapest first.
    """

    after: tuple[int, ...]
    above: tuple[float, ...]
    shares: tuple[float, ...]
    accuracy: float
    whole_accuracy: float
    drop: float
    curve: tuple[Mapping[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the program beside the parts reads it."""
        return {
            "parts": [PART.format(n) for n in range(len(self.shares))],
            "after_blocks": self.after,
            "leave_above": self.above,
            "shares": self.shares,
            "accuracy": self.accuracy,
            "whole_accuracy": self.whole_accuracy,
            "drop": self.drop,
            "curve": self.curve,
        }


def encode_parts(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes]:
    """Encode the parts of a build whose candidate has exits; none of any other.

    Raises:
        CostError: the device cannot run parts, or a precision.
    """
    if not has_exits(build.candidate.architecture):
        return {}
    check_hand_over(device.to_dict())
    files: dict[str, bytes] = {}
    shapes = input_shapes(build.ready)
    for number, (part, shape) in enumerate(zip(parts_of(build.ready), shapes, strict=True)):
        outputs = (OUTPUT, STREAM) if number + 1 < len(shapes) else (OUTPUT,)
        graph = to_onnx(part, shape, outputs=outputs)
        files[PART.format(number)] = encode_graph(graph, build, device, preprocessing)
    return files


def rule_for(build: Build, split: Split, goal: str, costs: Sequence[float], drop: float) -> Rule:
    """Choose thresholds on the validation images.

    Args:
        build: of a candidate with exits.
        split: the images.
        goal: name of the accuracy that counts.
        costs: of each part, in any unit.
        drop: by how much accuracy may fall below that of the whole network.
    """
    logits = build.every_logits(split)
    weights = None if goal == MAXIMIZED[0] else class_weights(split.labels)
    trade = TradeOff.of(logits, split.labels, costs, weights)
    chosen, whole = trade.cheapest(trade.whole - drop), trade.whole
    after = blocks_before(build.candidate.architecture)
    curve = tuple(_about(point, sum(costs)) for point in best_of([*trade.curve(), chosen]))
    return Rule(after, chosen.above, chosen.shares, chosen.accuracy, whole, drop, curve)


def names_of(candidate: Candidate) -> list[str]:
    """Names of the parts' files."""
    return [PART.format(number) for number in range(len(blocks_before(candidate.architecture)) + 1)]


def _about(point: Point, whole: float) -> dict[str, Any]:
    return {
        "accuracy": point.accuracy,
        "relative_cost": point.cost / whole,
        "shares": point.shares,
        "leave_above": point.above,
    }


def write_rule(folder: Path, rule: Rule) -> str:
    """Write the rule beside its parts; name of its file."""
    write_json(folder / EXITS, rule.to_dict())
    return EXITS


def read_rule(folder: Path) -> Rule:
    """Read the rule of an artifact.

    Raises:
        RunError: it is missing or damaged.
    """
    path = folder / EXITS
    raw = read_json(path)
    try:
        data = cast("dict[str, Any]", raw)
        above = tuple(map(float, data["leave_above"]))
        shares = tuple(map(float, data["shares"]))
        if len(shares) != len(above) + 1 or len(data["after_blocks"]) != len(above):
            raise ValueError("there must be one threshold an exit, and one share more")
        return Rule(
            tuple(map(int, data["after_blocks"])),
            above,
            shares,
            float(data["accuracy"]),
            float(data["whole_accuracy"]),
            float(data["drop"]),
            tuple(data["curve"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: not a rule of exits: {error}") from error
