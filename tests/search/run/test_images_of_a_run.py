"""Images of a run folder: those of its own configuration, whatever a stopped start left there."""

from pathlib import Path

import pytest

from tests.search.data.pictures import picture
from vitpareto.search.config import DataConfig, RunConfig, load_config
from vitpareto.search.data.loading import record_images
from vitpareto.search.run.assets import Run
from vitpareto.search.run.opening import open_run
from vitpareto.search.run.stage import Stage
from vitpareto.search.run.stages import running
from vitpareto.spaces.errors import RunError

pytestmark = pytest.mark.onnx


def config(tmp_path: Path, classes: str, each: int = 6) -> RunConfig:
    root = tmp_path / f"images-{classes}"
    for k, name in enumerate(classes):
        for i in range(each):
            picture(root / name / f"{i}.png", 40 * k + i)
    return load_config("digits", [f"data.root={root}"])


def test_a_start_that_was_stopped_leaves_its_images_to_no_other(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with open_run(config(tmp_path, "ab"), path, resume=False) as folder:
        record_images(Run(folder).config.data, 8, folder)  # and no stage ends
        assert folder.catalog.exists() and not folder.begun
    with open_run(config(tmp_path, "xyz"), path, resume=False) as folder:
        run = Run(folder)
        assert run.data.class_names == ("x", "y", "z")
        assert run.space.largest().architecture.num_classes == 3


def test_a_second_run_of_a_process_sees_images_that_came_since_the_first(tmp_path: Path) -> None:
    given = config(tmp_path, "ab")
    with open_run(given, tmp_path / "first", resume=False) as folder:
        assert Run(folder).space.largest().architecture.num_classes == 2
    for i in range(6):
        picture(Path(given.data.root) / "c" / f"{i}.png", 80 + i)
    with open_run(given, tmp_path / "second", resume=False) as folder:
        assert Run(folder).data.class_names == ("a", "b", "c")


def test_images_are_recorded_after_a_calibration_too(tmp_path: Path) -> None:
    with open_run(config(tmp_path, "ab"), tmp_path / "run", resume=False) as folder:
        with running(folder, Stage.CALIBRATION):
            pass
        assert Run(folder).data.class_names == ("a", "b")
        assert folder.catalog.exists()


def test_what_others_made_of_a_folder_is_kept_when_images_cannot_be_read(tmp_path: Path) -> None:
    given = config(tmp_path, "ab")
    with open_run(given, tmp_path / "run", resume=False) as folder:
        with running(folder, Stage.CALIBRATION):
            pass
        for file in Path(given.data.root).rglob("*.png"):
            file.write_bytes(b"")
        with pytest.raises(RunError, match="cannot be read"):
            _ = Run(folder).data
        assert folder.config.exists() and folder.stages.exists()


def test_a_run_of_digits_of_release_0_2_is_resumed(tmp_path: Path) -> None:
    """Its folder holds keys that are gone, and the default of that time."""
    now, path = load_config("digits"), tmp_path / "run"
    with open_run(now, path, resume=False) as folder:
        text = folder.config.read_text()
        old = "broken: 0.01\n  memory_mb: 2000\n  workers: 2\n"
        assert "broken: 0.05\n" in text
        folder.config.write_text(text.replace("broken: 0.05\n", old))
        folder.record_stage("calibration", {})
    with open_run(now, path, resume=True) as folder:
        assert load_config(folder.config) == now
    with pytest.raises(RunError, match="cannot be resumed with another data"):
        open_run(load_config("digits", ["data.broken=0.2"]), path, resume=True)


def test_a_share_of_broken_images_that_was_chosen_stays() -> None:
    assert DataConfig.model_validate({"broken": 0.01}).broken == 0.01
    assert DataConfig.model_validate({"broken": 0.2, "workers": 2}).broken == 0.2
