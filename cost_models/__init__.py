"""What a candidate costs on a device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .device import Device
from .model import CostModel, Prediction
from .table import LatencyTable
from .workload import SubBlock, Workload, workload

if TYPE_CHECKING:
    from .calibrate import calibrate

__all__ = [
    "CostModel",
    "Device",
    "LatencyTable",
    "Prediction",
    "SubBlock",
    "Workload",
    "calibrate",
    "workload",
]

# These import torch and onnx, which loading and asking a cost model does not need.
_LAZY = {"calibrate": ".calibrate"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name], __name__), name)
        globals()[name] = value  # importing the module of that name has put it here
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
