"""Answering: what gives a model's answers on this machine, which need not be the one it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...cost_models import Device
from ...cost_models.graphs.files import REFERENCE
from ...cost_models.runtime_spec import ONNX
from ...cost_models.runtimes import available, find_runtime
from ..data.dataset import Split
from .artifact import Answers, Artifact
from .build import Build
from .checks import check_answers
from .claims import Check


def stand_in(device: Device, identity: Mapping[str, Any]) -> Device | None:
    """Device of this machine that gives the answers of a model; None where only torch can.

    It is the device itself on its own machine. Of another machine it has the same runtime where
    that is installed, and otherwise ONNX Runtime, if it can read the files.

    Args:
        device: that the model is for.
        identity: of the device when it was calibrated.
    """
    if device.identity() == identity:
        return device
    alone = replace(device, threads=1, affinity=())
    if not available(alone):
        return alone
    if find_runtime(device.runtime).format == ONNX:
        return replace(REFERENCE, batch=device.batch)
    return None


def answers_here(
    folder: Path,
    device: Device,
    identity: Mapping[str, Any],
    build: Build,
    split: Split,
    low: float,
    goal: str,
) -> tuple[Answers, list[Check]]:
    """Answers on a split, and checks that compare them with torch's.

    Args:
        folder: of the artifact.
        device: that it is for.
        identity: of the device when it was calibrated.
        build: from which it was made.
        split: images and labels.
        low: least accuracy that is allowed.
        goal: name of that accuracy.
    """
    if here := stand_in(device, identity):
        return Artifact.load(folder, here).check_answers(build, split, low, goal)
    logits = build.logits(split)
    return Answers(logits), check_answers(build.exact, logits, logits, split.labels, low, goal)
