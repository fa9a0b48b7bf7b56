"""The space of a run is without what its device cannot execute, and stays so."""

from pathlib import Path

import pytest

from vitpareto.cost_models import Device
from vitpareto.search.config import load_config
from vitpareto.search.run.targeting import record, recorded, targeted, targeted_at_all
from vitpareto.search.store.run_folder import RunPaths
from vitpareto.spaces import SearchSpace

pytestmark = pytest.mark.onnx


def test_a_resumed_run_has_the_space_that_it_began_with(tmp_path: Path, space: SearchSpace) -> None:
    config, device, paths = load_config("digits", ()), Device.load("torch-1t"), RunPaths(tmp_path)
    begun, refusals = targeted(config, space, device)
    assert begun != space and "weight_bits 8" in " ".join(map(str, refusals))
    record(paths, device, refusals)
    assert "torch-1t cannot execute" in recorded(paths)
    # What it found then counts, and nothing is tried again.
    assert targeted(config, space, Device.load("cpu-1t"), paths)[0] == begun


def test_a_device_whose_runtime_is_elsewhere_is_not_tried(space: SearchSpace) -> None:
    away = Device("away", "onnxruntime", "QNNExecutionProvider", 1, ("float", "static8"))
    assert targeted(load_config("digits", ()), space, away) == (space, [])


def test_every_device_is_to_run_all_that_is_left(tmp_path: Path, space: SearchSpace) -> None:
    config, paths = load_config("digits", ()), RunPaths(tmp_path)
    devices = [Device.load("cpu-1t"), Device.load("torch-1t")]
    left, refusals = targeted_at_all(config, space, devices)
    alone, _ = targeted(config, space, devices[1])
    assert left == alone != space and [bool(of_each) for of_each in refusals] == [False, True]
    for _ in range(2):  # as if both refused the same
        record(paths, devices[1], refusals[1])
    assert recorded(paths).count("torch-1t cannot execute") == 2
    assert recorded(paths).count("space: ") == 1
    again, told = targeted_at_all(config, space, devices, paths)
    assert again == left and len(told) == len(devices)
