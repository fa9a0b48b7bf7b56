"""What a device cannot execute is kept in the run folder, and the report says so."""

import shutil
from pathlib import Path

import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.measure.runnable import Refusal
from vitpareto.search.config import load_config
from vitpareto.search.report import build_report
from vitpareto.search.run.targeting import record, recorded, targeted
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import SearchSpace


@pytest.mark.onnx
def test_a_run_is_continued_without_what_was_refused(finished: Path, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(finished, tmp_path / "run")), lock=False)
    device, space = Device.load("cpu-1t"), SearchSpace.from_yaml(folder.space)
    assert recorded(folder) == ""
    refusal = Refusal({"mixer": "linear"}, "mixer linear", "operator CumSum has no conversion")
    record(folder, device, [refusal])
    line = "space: cpu-1t cannot execute, and so is left out: mixer linear ("
    assert recorded(folder).startswith(line)
    left, refusals = targeted(load_config(folder.config), space, device, folder)
    assert refusals == [refusal] and left.size < space.size
    for candidate in left.sample(20):
        assert "linear" not in {block.mixer for block in candidate.architecture.blocks()}
    build_report(folder)
    assert "mixer linear (operator CumSum" in folder.report.read_text()
