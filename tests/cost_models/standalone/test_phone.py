"""What benchmark programs print, as their makers' documentation and sources have it."""

from pathlib import Path

import pytest

from vitpareto.cost_models.standalone.phone import (
    Printed,
    phone_identity,
    properties,
    read_litert,
    read_mnn,
    read_ncnn,
)
from vitpareto.cost_models.standalone.seal import SealError, sha256

LINE = (
    "Inference timings in us: Init: 5685, First inference: 18535, Warmup (avg): 14462.3, "
    "Inference (avg): 14575.2"
)
OLD = f"""INFO: Initialized TensorFlow Lite runtime.
count=100 first=20000 curr=19000 min=18000 max=21000 avg=19500 std=400

count=50 first=14532 curr=14590 min=14200 max=15010 avg=14575.2 std=102

{LINE}
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE
Memory footprint delta from the start of the tool (MB): init=2.75 overall=4.25
"""


def test_litert() -> None:
    found = read_litert(OLD)
    assert found.median_ms == pytest.approx(14.5752) and found.n == 50
    assert found.p10_ms == pytest.approx(14.5752 - 1.2816 * 0.102)
    assert found.p90_ms == pytest.approx(14.5752 + 1.2816 * 0.102)
    assert found.memory_mb == pytest.approx(4.25 * 1.048576)
    new = OLD.replace("avg=14575.2 std=102", "avg=14575.2 std=2000 p5=14210 median=14500 p95=15000")
    found = read_litert(new.replace("\n", "\r\n"))
    assert (found.median_ms, found.p10_ms, found.p90_ms) == (14.5, 14.2, 15.01)
    assert read_litert(LINE).median_ms == pytest.approx(14.5752)  # and nothing else is known
    with pytest.raises(ValueError, match="no timing was printed, but: ERROR: no such op"):
        read_litert("INFO: Loaded\nERROR: no such op\n")
    with pytest.raises(ValueError, match="but: nothing"):
        read_litert("")


def test_others() -> None:
    text = "loop_count = 8\n          m.param  min =   21.11  max =   22.40  avg =   21.50\n"
    assert read_ncnn(text) == Printed(21.5, 21.11, 22.4)
    text = "[ - ] x.mnn    max =   30.125 ms  min =   25.5 ms  avg =   27.25 ms\n"
    assert read_mnn(text) == Printed(27.25, 25.5, 30.125)
    for read in (read_ncnn, read_mnn):
        with pytest.raises(ValueError, match="no timing was printed"):
            read("Segmentation fault")


def test_a_phone_is_known_by_its_properties(tmp_path: Path) -> None:
    (tmp_path / "getprop.txt").write_text(
        "[ro.product.model]: [Pixel 8]\r\n[ro.soc.model]: [Tensor G3]\r\n"
        "[ro.build.version.release]: [15]\r\n[ro.product.cpu.abi]: [arm64-v8a]\r\n"
    )
    (tmp_path / "cpuinfo.txt").write_text(
        "processor\t: 0\nFeatures\t: fp asimddp i8mm\nprocessor\t: 1\nFeatures\t: fp\n"
    )
    binary = tmp_path / "benchmark_model"
    binary.write_bytes(b"1")
    device = {"name": "x", "recipes": ["float"], "runtime": "litert", "threads": 1}
    assert phone_identity(device, tmp_path, binary) == {
        "runtime": "litert",
        "threads": 1,
        "version": f"benchmark_model {sha256(binary)[:12]}",
        "processor": "Pixel 8 (Tensor G3)",
        "isa": "asimddp i8mm",
        "cores": 2,
        "system": "Android 15 arm64-v8a",
    }
    (tmp_path / "getprop.txt").write_text("error: no devices\n")
    assert properties("error: no devices\n") == {}
    with pytest.raises(SealError, match=r"getprop\.txt: names no phone"):
        phone_identity(device, tmp_path, binary)
