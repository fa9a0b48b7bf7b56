"""The record of a run's images: read once, shared by processes, and taken up after a kill."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.search.data.pictures import folder, picture
from tests.search.data.test_survey import noise, noisy
from vitpareto.search.config import DataConfig
from vitpareto.search.data import rows
from vitpareto.search.data.catalog import Catalog
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.loading import (
    SHOWN,
    catalog_of,
    load_data,
    pixels_of,
    record_images,
    sample_data,
)
from vitpareto.search.data.pixels import Look
from vitpareto.search.data.rows import MappedRows
from vitpareto.search.data.sources.listing import digest
from vitpareto.search.data.splits import SPLITS
from vitpareto.search.store.run_folder import RunPaths
from vitpareto.spaces.errors import RunError


def recorded(config: DataConfig, size: int, path: Path) -> Data:
    path.mkdir(exist_ok=True)
    record_images(config, size, RunPaths(path))
    return load_data(config, size, None, RunPaths(path))


def same(one: Data, other: Data) -> None:
    assert (one.class_names, one.look, one.mean) == (other.class_names, other.look, other.mean)
    for name in SPLITS:
        ours, theirs = one.split(name, force=True), other.split(name, force=True)
        assert ours.images.equal(theirs.images) and ours.labels.equal(theirs.labels)
    chunks = torch.arange(len(one.train_labels)).split(7)
    views = [torch.cat([*data.views().batches(1, chunks)]) for data in (one, other)]
    assert views[0].equal(views[1])


@pytest.mark.parametrize("small", [True, False])
def test_a_run_reads_what_memory_would_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY_MB", 64 if small else 0)
    config = DataConfig(root=str(noisy(tmp_path / "set")), flip=True)
    data = recorded(config, 16, tmp_path / "run")
    same(data, load_data(config, 16))
    chunks = torch.arange(len(data.train_labels)).split(7)
    copy = pickle.loads(pickle.dumps(data.views()))
    assert torch.cat([*copy.batches(0, chunks)]).equal(
        torch.cat([*data.views().batches(0, chunks)])
    )


def test_digits_are_recorded_as_they_are_in_memory(tmp_path: Path) -> None:
    same(recorded(DataConfig(), 16, tmp_path / "run"), load_data(DataConfig(), 16))
    catalog = Catalog.load(RunPaths(tmp_path / "run").catalog, RunPaths(tmp_path / "run").images)
    assert len({row.digest for row in catalog.rows}) > 1700


def test_what_is_asked_of_images_holds_for_digits() -> None:
    few = DataConfig(limit=120, channels=3, fit="pad")
    data, all_ = load_data(few, 8), load_data(DataConfig(), 8)
    assert sum(data.count(split) for split in SPLITS) == 120
    counts = sum(data.split(split).labels.bincount(minlength=10) for split in SPLITS)
    assert counts.tolist() == [12] * 10
    assert data.look == Look(8, 3, "pad") and data.split("search").images.shape[1:] == (3, 8, 8)
    pixels = pixels_of(few, 8, [0, 1])
    assert (pixels == pixels[:, :1]).all()
    rows = catalog_of(few, 8).rows[:2]
    numbers = [int(row.path.removeprefix("digits/")) for row in rows]
    assert (pixels[:, :1] == pixels_of(DataConfig(), 8, numbers)).all()
    assert all_.in_chans == 1 and sum(all_.count(split) for split in SPLITS) == 1797
    with pytest.raises(RunError, match="class '0' has too few images"):
        load_data(DataConfig(limit=20), 8)


def test_a_sample_has_all_classes_whatever_the_order_of_the_rows() -> None:
    catalog = catalog_of(DataConfig(), 8)
    rows = [
        replace(row, label=str(i % 2), split=("train", "search", "validation", "")[i // 512])
        for i, row in enumerate(catalog.rows)
    ]
    data = sample_data(DataConfig(), 8, replace(catalog, rows=rows))
    for split in ("train", "search", "validation"):
        labels = data.split(split).labels
        assert len(labels) == SHOWN and 0.4 < labels.float().mean() < 0.6


@pytest.mark.parametrize("odd", ["a\rb", "a\nb", "a\r\nb", 'a"b,', " a"])
def test_a_catalog_reads_names_as_they_were(odd: str, tmp_path: Path) -> None:
    catalog = catalog_of(DataConfig(), 8)
    rows = [replace(row, path=f"{odd}/1", label=odd) for row in catalog.rows[:2]]
    written = replace(catalog, rows=rows, class_names=(odd, "b"))
    files = tmp_path / "catalog.json", tmp_path / "images.csv"
    written.save(*files)
    assert [*Catalog.load(*files).rows] == rows


def test_later_files_and_lost_files_change_nothing(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    config = DataConfig(root=str(root))
    before = recorded(config, 8, tmp_path / "run")
    picture(root / "0" / "new.png", 3)
    for file in (root / "a").iterdir():
        file.unlink()
    same(before, load_data(config, 8, None, RunPaths(tmp_path / "run")))


def test_a_run_that_did_not_record_its_images(tmp_path: Path) -> None:
    config = DataConfig(root=str(folder(tmp_path / "set")))
    (tmp_path / "teacher.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="before runs recorded their images"):
        load_data(config, 8, None, RunPaths(tmp_path))
    assert load_data(DataConfig(), 8, None, RunPaths(tmp_path)).num_classes == 10


def test_damaged_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, paths = DataConfig(root=str(folder(tmp_path / "set"))), RunPaths(tmp_path / "run")
    recorded(config, 8, paths.path)
    paths.pixels.write_bytes(paths.pixels.read_bytes()[:-1])
    with pytest.raises(RunError, match="not as large as 40 images"):
        load_data(config, 8, None, paths)
    paths.pixels.unlink()
    with pytest.raises(RunError, match=r"no such file .*needs the run folder"):
        load_data(config, 8, None, paths)
    paths.images.write_text("nothing\n1\n")
    with pytest.raises(RunError, match=r"images.csv: damaged"):
        load_data(config, 8, None, paths)


def test_no_room(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"need .* GB.*set data.limit, or --run-dir"):
        rows.check_room(tmp_path, load_data(DataConfig(), 8).look, 10**15)


@pytest.mark.parametrize("kills", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_reading_goes_on(tmp_path: Path, kills: int) -> None:
    """Killed in the middle, also again, the record is that of a reading in one go."""
    root = folder(tmp_path / "set", each=100, classes="abcdefgh")
    config, paths = DataConfig(root=str(root)), RunPaths(tmp_path / "run")
    paths.path.mkdir()
    code = (
        "import sys, pathlib; from vitpareto.search.data import loading;"
        "from vitpareto.search.config import DataConfig;"
        "from vitpareto.search.store.run_folder import RunPaths;"
        "config, paths = DataConfig(root=sys.argv[1]), RunPaths(pathlib.Path(sys.argv[2]));"
        "loading.record_images(config, 64, paths)"
    )
    lines = 0
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", code, str(root), str(paths.path)])
        while process.poll() is None and count(paths.reading) <= lines + 1:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert count(paths.reading) > lines or paths.catalog.exists()
        lines = count(paths.reading)
    record_images(config, 64, paths)
    assert not paths.reading.exists()
    same(load_data(config, 64, None, paths), load_data(config, 64))


def test_a_killed_reading_of_other_images_is_forgotten(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    paths.path.mkdir()
    paths.reading.write_text('{"images": "another"}\n[["x", 1, 1, "L", "damaged"]]\n')
    paths.pixels.write_bytes(b"old")
    config = DataConfig(root=str(folder(tmp_path / "set")))
    same(recorded(config, 8, paths.path), load_data(config, 8))


def test_a_log_without_its_pixels_is_forgotten(tmp_path: Path) -> None:
    config, paths = DataConfig(root=str(folder(tmp_path / "set"))), RunPaths(tmp_path / "run")
    paths.path.mkdir()
    with pytest.MonkeyPatch.context() as patch:  # stopped behind the last image
        patch.setattr(Catalog, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            record_images(config, 8, paths)
    assert count(paths.reading) > 1
    paths.pixels.unlink()
    same(recorded(config, 8, paths.path), load_data(config, 8))


def test_what_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    root, paths = noisy(tmp_path / "set", each=24), RunPaths(tmp_path / "run")
    paths.path.mkdir()
    whole = (root / "a" / "3.png").read_bytes()
    (root / "a" / "3.png").write_bytes(b"")
    config = DataConfig(root=str(root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            record_images(config, 8, paths)
    assert "empty file" in paths.reading.read_text()
    (root / "a" / "3.png").write_bytes(whole)
    assert not record_images(config, 8, paths).skipped
    same(load_data(config, 8, None, paths), load_data(config, 8))


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    root, paths = noisy(tmp_path / "set", each=24), RunPaths(tmp_path / "run")
    paths.path.mkdir()
    config = DataConfig(root=str(root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            record_images(config, 8, paths)
    noise(root / "a" / "3.png", 777)
    catalog = record_images(config, 8, paths)
    (row,) = [row for row in catalog.rows if row.path == "a/3.png"]
    assert row.digest == digest((root / "a" / "3.png").read_bytes())
    same(load_data(config, 8, None, paths), load_data(config, 8))


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def count(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


def test_rows_of_a_missing_file_are_one_line(tmp_path: Path) -> None:
    mapped = MappedRows(tmp_path / "pixels.u8", (4, 1, 2, 2), torch.arange(2))
    with pytest.raises(RunError, match="needs the run folder") as caught:
        mapped[torch.arange(1)]
    assert "\n" not in str(caught.value)
