"""Cost models: latency, memory, size and energy of a candidate on a device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..spaces.packages import needed
from .device import Device
from .predict.model import CostModel
from .predict.prediction import Prediction
from .tables.latency_table import LatencyTable
from .units.sub_block import SubBlock
from .units.workload import Workload, workload

if TYPE_CHECKING:
    from .calibration.calibrate import calibrate
    from .foreign.onnx_estimate import Estimate, predict_onnx

__all__ = [
    "CostModel",
    "Device",
    "Estimate",
    "LatencyTable",
    "Prediction",
    "SubBlock",
    "Workload",
    "calibrate",
    "predict_onnx",
    "workload",
]

# These import torch and onnx, which loading and asking a cost model does not need.
_LAZY = {
    "calibrate": ".calibration.calibrate",
    "Estimate": ".foreign.onnx_estimate",
    "predict_onnx": ".foreign.onnx_estimate",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        with needed(f"{__name__}.{name}"):
            value = getattr(import_module(_LAZY[name], __name__), name)
        globals()[name] = value  # importing the module of that name has put it here
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
