"""History: nothing that was measured is lost, and who became slower is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from vitpareto.search.delivery.history import SLOWER, read_history, remember, told
from vitpareto.search.delivery.manifest import Manifest, manifests
from vitpareto.search.store.run_folder import RunPaths
from vitpareto.spaces.errors import RunError


def test_measurements_are_added_and_read_by_model(finished: Path, tmp_path: Path) -> None:
    first, second = manifests(finished / "pareto")

    def measured(manifest: Manifest, ms: float) -> Manifest:
        return replace(manifest, metrics=replace(manifest.measured(), latency_ms=ms, speed=1.0))

    def times() -> dict[str, list[float]]:
        found = read_history(paths)
        return {key: [row["latency_ms"] for row in rows] for key, rows in found.items()}

    paths = RunPaths(tmp_path)
    assert times() == {}
    for ms in (1.0, 1.2):
        remember(paths, [measured(first, ms), replace(second, metrics=None)])
    assert times() == {first.key: [1.0, 1.2]}
    with paths.measurements.open("a") as file:
        file.write(f'{{"key": "{first.key}", "laten')  # a kill
    assert times() == {first.key: [1.0, 1.2]}
    remember(paths, [measured(first, 1.1), measured(second, 3.0)])
    assert times() == {first.key: [1.0, 1.2, 1.1], second.key: [3.0]}
    (row, *_) = read_history(paths)[second.key]
    assert row.items() >= measured(second, 3.0).measured().row().items()
    paths.measurements.unlink()
    paths.measurements.mkdir()
    with pytest.raises(RunError, match=r"measurements\.jsonl: cannot be written"):
        remember(paths, [measured(first, 1.1)])


def test_who_became_slower_is_told() -> None:
    def rows(*times: float) -> list[dict[str, object]]:
        return [{"at": "2026-11-30T10:00:00+0000", "latency_ms": ms} for ms in times]

    assert told([]) == told(rows(1.0)) == ""
    assert told(rows(1.0, 2.0, 1.0 * SLOWER)).endswith("now 1.1")
    assert told(rows(1.0, 1.0, 1.2)).endswith("now 1.2, 1.20 times as long as before")
