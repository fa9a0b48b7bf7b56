"""Handing over: which devices run a network in parts, of which the first that is sure answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..spaces import Candidate
from ..spaces.errors import CostError
from ..spaces.exits import EXPECTED, has_exits
from .runtime_spec import RUNTIMES, find_runtime


def why_not(device: Mapping[str, Any]) -> str:
    """Why a device does not; empty where it does.

    Args:
        device: its settings or identity.
    """
    runtime = str(device.get("runtime"))
    if runtime not in RUNTIMES or not find_runtime(runtime).hands_over:
        return f"networks with exits run in onnxruntime, not in {runtime}"
    if device.get("batch", 1) != 1:
        return f"networks with exits take one image at a time, not a batch of {device['batch']}"
    return ""


def check_hand_over(device: Mapping[str, Any]) -> None:
    """Check that a device runs networks with exits.

    Raises:
        CostError: it does not.
    """
    if reason := why_not(device):
        raise CostError(reason)


def check_exits(candidate: Candidate, device: Mapping[str, Any]) -> None:
    """Check that a device runs a candidate, if it has exits.

    Raises:
        CostError: it has, and the device does not.
    """
    if has_exits(candidate.architecture):
        check_hand_over(device)


def expectation(candidates: Iterable[Candidate]) -> str:
    """How images are expected to leave networks, in words; empty where none has exits."""
    if not any(has_exits(candidate.architecture) for candidate in candidates):
        return ""
    return (
        "latencies of networks with exits are predicted as means over images of which "
        f"{EXPECTED:.0%} leave at each exit that they reach; what is delivered is promised with "
        "the shares that were found"
    )
