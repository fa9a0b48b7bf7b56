"""GPUs are named as their driver lists them, and belong to identities."""

from pathlib import Path

import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.standalone import gpu, runner
from vitpareto.cost_models.standalone.energy_meter import NVIDIA, PROCESSOR
from vitpareto.cost_models.tables.latency_table import different

H200 = "GPU 0: NVIDIA H200 (UUID: GPU-1d6c4f9e-5b1c-8a0e-4a1f-0b5f8a5a2a11)\n"
TWO = """\
GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
GPU 1: NVIDIA T400 4GB (UUID: GPU-a4f1ab34-3a42-21d4-9d41-1c0f7bdf1c3e)
"""
SLICED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
  MIG 3g.20gb     Device  2: (UUID: MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/1/0)
"""
BOTH = "NVIDIA GeForce RTX 3090 or NVIDIA T400 4GB"
SMALL, LARGE = (f"NVIDIA A100-SXM4-40GB MIG {part}" for part in ("1g.5gb", "3g.20gb"))


@pytest.mark.parametrize(
    ("listed", "visible", "order", "name"),
    [
        (H200, None, None, "NVIDIA H200"),
        (H200.replace("0:", "1:") + H200, "1", None, "NVIDIA H200"),
        (TWO, None, None, BOTH),
        (TWO, "1,0", None, BOTH),
        (TWO, "1,0", "PCI_BUS_ID", "NVIDIA T400 4GB"),
        (TWO, None, "PCI_BUS_ID", "NVIDIA GeForce RTX 3090"),
        (TWO, "GPU-a4f1", None, "NVIDIA T400 4GB"),
        (TWO, "2", "PCI_BUS_ID", ""),
        (TWO, "", None, ""),
        (TWO, "-1", None, ""),
        (SLICED, None, None, f"{SMALL} or {LARGE}"),
        (SLICED, "MIG-cba663e8", None, SMALL),
        (SLICED, "MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/1/0", None, LARGE),
        ("No devices were found\n", None, None, ""),
        ("", None, None, ""),
    ],
)
def test_the_first_that_cuda_shows_is_named(
    listed: str, visible: str | None, order: str | None, name: str
) -> None:
    given = {gpu.VISIBLE: visible, gpu.ORDER: order}
    assert gpu.first_of(listed, {key: v for key, v in given.items() if v is not None}) == name


def test_another_gpu_is_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bundles as here; the processor's own devices stay what they were."""
    monkeypatch.delenv(gpu.VISIBLE, raising=False)
    there, here = tmp_path / "there", tmp_path / "here"
    for folder, listed in ((there, H200), (here, H200.replace("H200", "L4"))):
        folder.mkdir()
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n[ $1 = -L ] && echo '{listed}'\n")
        (folder / "nvidia-smi").chmod(0o755)
    cuda, identities = Device.load("cuda"), []
    for folder in (there, here):
        monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
        identities.append(cuda.identity())
        assert gpu.gpu_name(PROCESSOR) == "" != gpu.gpu_name(NVIDIA)
        assert "gpu" not in Device.load("cpu-1t").identity()
        assert runner.identity(cuda.to_dict(), cuda.chip)["gpu"] == cuda.identity()["gpu"]
    assert different(*identities) == "gpu is 'NVIDIA H200' in one and 'NVIDIA L4' in the other"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "gpu" not in cuda.identity()
