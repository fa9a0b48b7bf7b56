"""Stages of a ladder multiply up to what the last one is beside the original."""

from math import prod

import pytest

from vitpareto.search.cli.text import ladder_lines
from vitpareto.search.report.cumulative import stages


def row(name: str, ms: float, mb: float, accuracy: float, **others: object) -> dict:
    ends = {"latency_p10_ms": 0.9 * ms, "latency_p90_ms": 1.1 * ms, "throughput": {1: 1e3 / ms}}
    about = {"name": name, "latency_ms": ms, "size_mb": mb, "accuracy": accuracy, "speed": 1.0}
    return {**about, **ends, "peak_memory_mb": 2 * mb, "runtime": "onnxruntime", **others}


ROWS = [
    row("original", 10.0, 8.0, 0.90),
    row("float32", 6.0, 8.0, 0.90),
    row("float16", 6.5, 4.0, 0.90),  # no faster: not applied
    row("int8", 4.0, 2.0, 0.89),
    row("linear attention", 5.0, 8.0, 0.88),
    row("searched b", 1.0, 1.0, 0.80),
    row("searched a", 2.0, 1.0, 0.91),
]
REWRITE = {"name": "layer_to_rms", "exact": True, "beside": "searched a", "moved": 0.0}


def test_stages_follow_each_other() -> None:
    swapped = row("searched a, layer_to_rms", 1.9, 1.0, 0.92, rewrite=REWRITE)  # no stage
    found = stages([*ROWS, swapped], "accuracy")
    assert [stage.name for stage in found] == ["float32", "int8", "searched a"]
    assert prod(s.latency for s in found) == pytest.approx(found[-1].latency_so_far) == 0.2
    assert sum(s.accuracy for s in found) == pytest.approx(found[-1].accuracy_so_far)
    assert found[1].size == 0.25 and found[1].memory == 0.25
    assert stages(ROWS[4:5], "accuracy") == [] == stages(ROWS[:1], "accuracy")


def test_they_are_printed_and_what_is_not_known_is_said() -> None:
    lines = ladder_lines(ROWS, "accuracy", [])
    assert "9.000 - 11.000" in lines[1] and "16.0" in lines[1] and " - " in lines[1]
    assert "images/J: not known here, no counter of energy tells" in lines[len(ROWS) + 1]
    assert "0.50 of the latency (0.20)" in lines[-1] and "+2.0 points (+1.0)" in lines[-1]
    known = ladder_lines([row("original", 1.0, 1.0, 0.5, images_per_joule=12.5)], "accuracy", [])
    assert "12.5" in known[1] and len(known) == 2
