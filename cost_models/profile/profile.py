"""Profile of a model: operators, sub-blocks, tensors and memory, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..device import Device
from ..units.sub_block import SubBlock
from .liveness import Peaks
from .roofline import MachinePeaks
from .tensors import Tensor

MB = 1e6


@dataclass(frozen=True)
class TimedKernel:
    """A kernel with its time.

    Attributes:
        operator: its kind, in the words of the runtime.
        kind: its class.
        place: index of its sub-block.
        ms: of one run.
    """

    operator: str
    kind: str
    place: int
    ms: float


@dataclass(frozen=True)
class ProfiledBlock:
    """A sub-block with what it takes.

    Attributes:
        name: path of its module.
        block: what it computes.
        recipe: whose kernels the file asks for.
        ms: of its kernels.
        weight_bytes: of its constants in the file.
        moved_bytes: that one run moves if every operation goes to memory, constants included.
        peak_gflops: of this machine in these kernels.
        peak_gb_per_s: of this machine for so many bytes.
        bound: "compute", "memory" or "overhead".
        batch: images of one run.
    """

    name: str
    block: SubBlock
    recipe: str
    ms: float
    weight_bytes: int
    moved_bytes: int
    peak_gflops: float
    peak_gb_per_s: float
    bound: str
    batch: int

    @property
    def gflops(self) -> float:
        """10^9 multiplications and additions in a second."""
        return 2 * self.batch * self.block.macs / self.ms / 1e6 if self.ms else 0.0

    @property
    def gb_per_s(self) -> float:
        """10^9 bytes in a second."""
        return self.moved_bytes / self.ms / 1e6 if self.ms else 0.0

    @property
    def intensity(self) -> float:
        """Multiplications and additions for a byte that is moved."""
        return 2 * self.batch * self.block.macs / max(self.moved_bytes, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        b = self.block
        about = {"name": self.name, "kind": b.kind, "variant": b.variant, "recipe": self.recipe}
        counts = {"macs": b.macs, "bytes": self.moved_bytes, "bound": self.bound}
        counts |= {"params": b.params, "weight_bytes": self.weight_bytes}
        rates = {"flops_per_byte": self.intensity, "gflops": self.gflops}
        rates |= {"peak_gflops": self.peak_gflops, "gb_per_s": self.gb_per_s}
        return about | {"ms": self.ms} | counts | rates | {"peak_gb_per_s": self.peak_gb_per_s}


@dataclass(frozen=True)
class Profile:
    """A model looked into on this machine.

    Attributes:
        device: that ran it.
        version: of its runtime.
        latency_ms: of one run, without a profiler.
        accounted: share of it that is seen in a call and in kernels.
        slowed: factor by which kernels were slower while they were timed, which is divided out.
        classes: class of operators -> ms, the largest first; together what is accounted for.
        kernels: in the order of execution.
        blocks: sub-blocks in order.
        tensors: activations in the order in which they are made.
        peak: planned memory of the activations.
        machine: the fastest that it was seen to multiply and to move meanwhile.
        energy_mj: of one run above idle; None without a counter.
    """

    device: Device
    version: str
    latency_ms: float
    accounted: float
    slowed: float
    classes: Mapping[str, float]
    kernels: Sequence[TimedKernel]
    blocks: Sequence[ProfiledBlock]
    tensors: Sequence[Tensor]
    peak: Peaks
    machine: MachinePeaks
    energy_mj: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; the energy is in it where a counter told it."""
        total = sum(self.classes.values())
        peak = {name: getattr(self.peak, name) / MB for name in ("naive", "reused", "reordered")}
        told = {
            "operator_classes": [
                {"name": name, "ms": ms, "share": ms / total} for name, ms in self.classes.items()
            ],
            "accounted": self.accounted,
            "sub_blocks": [block.to_dict() for block in self.blocks],
            "tensors": [self._tensor(tensor) for tensor in self.tensors],
            "peak_mb": peak,
        }
        return told if self.energy_mj is None else told | {"energy_mj": self.energy_mj}

    def summary(self) -> dict[str, Any]:
        """What a report shows of it: device and latency, and `to_dict` without the tensors."""
        about = {"device": self.device.name, "latency_ms": self.latency_ms}
        told = self.to_dict()
        del told["tensors"]
        return about | told

    def _tensor(self, tensor: Tensor) -> dict[str, Any]:
        place = "" if tensor.place is None else self.blocks[tensor.place].name
        about = {"name": tensor.name, "sub_block": place, "operator": tensor.operator}
        return about | {"shape": list(tensor.shape), "mb": tensor.size / MB}
