"""What a candidate costs on a device."""

from .workload import SubBlock, Workload, workload

__all__ = ["SubBlock", "Workload", "workload"]
