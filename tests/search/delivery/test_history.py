"""History: nothing that was measured is lost, and who became slower is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from vitpareto.search.delivery.history import SLOWER, history_words, read_history, remember
from vitpareto.search.delivery.manifest import Manifest, manifests
from vitpareto.search.store.run_folder import RunPaths
from vitpareto.spaces.errors import RunError


def measured(manifest: Manifest, ms: float) -> Manifest:
    """With another latency, read from a machine of half the speed."""
    return replace(manifest, metrics=replace(manifest.measured(), latency_ms=2 * ms, speed=0.5))


def times(paths: RunPaths) -> dict[str, list[float]]:
    found = read_history(paths)
    return {key: [row["latency_ms"] for row in rows] for key, rows in found.items()}


def test_measurements_are_added_and_read_by_model(finished: Path, tmp_path: Path) -> None:
    first, paths = manifests(finished / "pareto")[0], RunPaths(tmp_path)
    second = replace(first, key="another")
    assert times(paths) == {}
    for ms in (1.0, 1.2):
        remember(paths, [], [measured(first, ms), replace(second, metrics=None)])
    assert times(paths) == {first.key: [1.0, 1.2]}
    with paths.measurements.open("a") as file:
        file.write(f'{{"key": "{first.key}", "laten')  # a kill
    assert times(paths) == {first.key: [1.0, 1.2]}
    remember(paths, [], [measured(first, 1.1), measured(second, 3.0)])
    assert times(paths) == {first.key: [1.0, 1.2, 1.1], second.key: [3.0]}
    (row,) = read_history(paths)[second.key]
    assert row.items() >= measured(second, 3.0).measured().row().items()
    assert row["latency_read_ms"] == 6.0


def test_what_a_manifest_alone_knows_is_kept_and_nothing_twice(
    finished: Path, tmp_path: Path
) -> None:
    paths, manifest = RunPaths(tmp_path), manifests(finished / "pareto")[0]
    old, new = measured(manifest, 1.0), measured(manifest, 2.0)
    for _ in range(2):  # such as a kit that is taken in twice
        remember(paths, [old], [new])
        assert times(paths) == {manifest.key: [1.0, 2.0]}
    assert read_history(paths)[manifest.key][0]["at"] == manifest.made
    remember(paths, [new], [old])
    assert times(paths) == {manifest.key: [1.0, 2.0, 1.0]}


def test_files_that_are_none(finished: Path, tmp_path: Path) -> None:
    paths, manifest = RunPaths(tmp_path), manifests(finished / "pareto")[0]
    broken = ("[1]", '{"key": "a"}', '{"key": "a", "at": 1, "latency_ms": 1}')
    nameless = ('{"at": "2026", "latency_ms": 1}', '{"key": [1], "at": "2026", "latency_ms": 1}')
    paths.measurements.write_bytes(b"\xff\n" + "\n".join((*broken, *nameless)).encode())
    assert read_history(paths) == {}
    paths.measurements.unlink()
    paths.measurements.mkdir()
    with pytest.raises(RunError, match=r"measurements\.jsonl: cannot be read"):
        remember(paths, [], [manifest])
    nowhere = RunPaths(tmp_path / "nowhere")
    remember(nowhere, [], [replace(manifest, metrics=None)])  # nothing to be written
    with pytest.raises(RunError, match=r"measurements\.jsonl: cannot be written"):
        remember(nowhere, [], [manifest])


def test_who_became_slower_is_told() -> None:
    def rows(*times: float) -> list[dict[str, object]]:
        return [{"at": "2026-11-30T10:00:00+0000", "latency_ms": ms} for ms in times]

    assert history_words([]) == history_words(rows(1.0)) == ""
    assert history_words(rows(1.0, 1.0, 1.0, SLOWER)).endswith("the last 1.1")
    slower = history_words(rows(1.0, 1.0, 1.2))
    assert slower.startswith("3 times since 2026-11-30: 1 to 1.2 ms")
    assert slower.endswith("the last 1.2, 1.20 times the median before")
