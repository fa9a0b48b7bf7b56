"""A manifest is what its file says, in the format of version 0.1, whatever its state."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from vitpareto.cost_models.tables.anchors import Pace
from vitpareto.search.cli.text import check_lines, model_lines, model_table
from vitpareto.search.delivery.checks import ANSWERED, check_latency
from vitpareto.search.delivery.claims import Check, Effect, Metrics, Refused, Story
from vitpareto.search.delivery.manifest import (
    Manifest,
    manifests,
    read_manifest,
    write_manifest,
)
from vitpareto.search.delivery.pick import pick_model
from vitpareto.search.delivery.verify import Report
from vitpareto.spaces.errors import RunError, UnknownNameError

OLD = Path(__file__).parents[2] / "data" / "manifest_0_1_0.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact's folder with nothing but a manifest of version 0.1."""
    folder = tmp_path / json.loads(OLD.read_text())["key"]
    folder.mkdir()
    shutil.copy(OLD, folder / "manifest.json")
    return folder


@pytest.fixture
def old(folder: Path) -> Manifest:
    return read_manifest(folder)


def slowed(manifest: Manifest, speed: float, ms: float) -> Manifest:
    """As measured on a machine at some speed, such that it is `ms` at that of its calibration."""
    found = replace(manifest.measured(), latency_ms=ms / speed, speed=speed)
    return replace(manifest, metrics=found)


def test_a_file_of_version_0_1_is_read_and_written_without_a_change(folder: Path) -> None:
    before = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, read_manifest(folder))
    after = json.loads((folder / "manifest.json").read_text())
    assert after.pop("status").startswith("verified: 98.9% accuracy on the validation images and ")
    assert after.pop("digest") != before.pop("digest")
    assert after == before


def test_its_status_says_what_was_measured(old: Manifest) -> None:
    assert old.status.endswith(" ms, measured in onnxruntime on cpu-1t")
    failed = replace(old, checks=(*old.checks, Check("latency", False, 0.5, "0.1 to 0.2")))
    assert failed.status.startswith("not verified: latency is 0.5, wanted 0.1 to 0.2; 98.9%")
    torch = replace(old.device, name="torch-1t", runtime="torch")
    again = replace(old, device=torch, metrics=None, answers=old.trained, made_from=old.where)
    assert again.status.startswith("not verified: 98.9% accuracy on the validation images, ")
    assert again.status.endswith(
        "measured in torch on torch-1t; latency and memory were not: those of its run were "
        "measured in onnxruntime on cpu-1t"
    )
    assert replace(old, metrics=None).status == "not verified: nothing was measured yet"


def test_its_parts_are_typed(old: Manifest) -> None:
    assert isinstance(old.metrics, Metrics) and isinstance(old.anchors, Pace)
    assert old.device.runtime == "onnxruntime" and old.device.batch == 1
    assert old.finalists == {old.key: Story()}
    assert old.checks[0] == Check("agreement with torch", True, 1.0, ">= 0.98")
    assert old.inventory.fallbacks == 0 and old.inventory.nodes == 58
    assert old.kernels == ["float", "dynamic8"]
    assert old.promised.was_measured and old.verified and old.inside_interval


def test_a_prediction_that_differs_in_its_last_bit_is_no_measurement(old: Manifest) -> None:
    """Or the machine would be thought as fast as makes the promise true."""
    ms = old.promised.predicted_ms
    for near in (ms, math.nextafter(ms, 2 * ms)):
        assert not replace(old.promised, latency_ms=near).was_measured


def test_few_answers_of_a_kit_are_said(old: Manifest) -> None:
    for answered, said in (("8 of 623", True), ("623 of 623", False)):
        kit = replace(old, kit="0", checks=(Check(ANSWERED, True, answered, ">= 8"), *old.checks))
        few = "where 8 of 623 images were answered; the others as torch answers"
        assert (few in kit.status) is said


def test_states(folder: Path, old: Manifest) -> None:
    refused, taken = (Refused("0" * 16, True, old.checks[:1]),), ("head: weight_bits 8 to 32",)
    story = Story(refused, taken, (Effect("exported", 0.9, 0.8, undone=True),))
    new = replace(old, metrics=None, inventory=None, checks=(), test=None, finalists={"f": story})
    for manifest in (new, replace(new, checks=old.checks[:3]), replace(old, test=None), old):
        write_manifest(folder, manifest)
        assert read_manifest(folder) == manifest
        body = json.loads((folder / "manifest.json").read_text())
        assert body["verified"] == manifest.verified == (manifest.metrics is not None)
        assert ("inside_interval" in body) == ("metrics" in body) == bool(manifest.metrics)
    assert not new.verified
    with pytest.raises(RunError, match="was not measured; continue the run with --resume"):
        new.measured()
    failed = replace(old.checks[0], holds=False)
    assert not replace(old, checks=[*old.checks[1:], failed]).verified


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"promised": {}}, "lacks 'accuracy'"),
        ({"metrics": {"accuracy": 1.0, "accuracy_low": 1.0}}, "lacks 'accuracy_high'"),
        ({"promised": 3}, "not a manifest"),
        ({"checks": [{}]}, "lacks 'name'"),
        ({"device": {"runtime": "onnxruntime"}}, "provider: must be given"),
        ({"finalists": []}, "not a manifest"),
        ({"inventory": {}}, "'linears'"),
    ],
)
def test_parts_that_lack_something_are_one_line(
    folder: Path, old: Manifest, monkeypatch: pytest.MonkeyPatch, change: dict, message: str
) -> None:
    body = old.to_dict() | change
    monkeypatch.setattr(Manifest, "to_dict", lambda self: body)
    write_manifest(folder, old)  # with the hash that fits
    with pytest.raises(RunError, match=message) as caught:
        read_manifest(folder)
    assert str(folder / "manifest.json") in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_later_release_adds_is_passed_over(
    folder: Path, old: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = old.to_dict()
    body |= {"color": "red", "metrics": body["metrics"] | {"smell": 3.0}}
    monkeypatch.setattr(Manifest, "to_dict", lambda self: body)
    write_manifest(folder, old)
    assert read_manifest(folder) == old


def test_recipes_of_a_model_that_was_made_again_by_0_1(old: Manifest) -> None:
    found = Manifest.from_dict(old.to_dict() | {"recipes": ["float", "fp16"]})
    assert found.kernels == ["float", "fp16"]


# Latencies at a stated speed.


def test_a_latency_is_kept_as_read_and_stated_at_the_speed_of_the_calibration(
    old: Manifest,
) -> None:
    found = slowed(old, 0.5, 0.03)
    assert found.measured().latency_ms == 0.06
    assert found.measured().calibrated_ms == pytest.approx(0.03)
    assert found.inside_interval  # whatever else the machine did
    assert "latency_read_ms" not in found.to_dict()["metrics"]  # as version 0.1
    row = found.row()["metrics"]
    assert (row["latency_read_ms"], row["speed"]) == (0.06, 0.5)
    assert row["latency_ms"] == pytest.approx(0.03)


def test_the_fastest_is_so_at_the_speed_of_the_calibration(tmp_path: Path, old: Manifest) -> None:
    """One was measured while the machine was busy."""
    slow = replace(slowed(old, 1.0, 0.05), key="a" * 16)
    fast = replace(slowed(old, 0.5, 0.04), key="b" * 16)
    for manifest in (slow, fast):
        (tmp_path / "pareto" / manifest.key).mkdir(parents=True)
        write_manifest(tmp_path / "pareto" / manifest.key, manifest)
    found = manifests(tmp_path / "pareto")
    assert [m.key for m in found] == [fast.key, slow.key]
    assert pick_model(found, "fastest").key == pick_model(found, "best").key == fast.key
    assert pick_model(found, slow.key).key == slow.key
    with pytest.raises(UnknownNameError, match="Did you mean 'fastest'"):
        pick_model(found, "fastes")
    with pytest.raises(RunError, match="was not measured"):
        pick_model([fast, replace(slow, metrics=None)], "fastest")


def test_lines_say_how_fast_the_machine_was(old: Manifest) -> None:
    _, usual = model_lines([slowed(old, 1.01, 0.03)])
    assert usual.endswith("yes") and "speed" not in usual
    _, line = model_lines([slowed(old, 0.61, 0.03)])
    assert " 0.030 " in line
    assert line.endswith("yes       read as 0.049 ms at 0.61 of the calibrated speed")
    *_, busy, quiet = model_table([slowed(old, speed, 0.03) for speed in (0.61, 1.0)])
    assert "| 0.030 ms, read as 0.049 ms at 0.61 of the calibrated speed |" in busy
    assert "| 0.030 ms |" in quiet


def test_every_check_is_a_line(old: Manifest) -> None:
    late = check_latency(0.05, 0.03, 0.5)
    lines = check_lines([Report(old.key, [old.checks[0], late])])
    assert lines == [
        f"{old.key}  ok      agreement with torch: 1, wanted >= 0.98",
        f"{old.key}  ok      latency_ms: 0.05, wanted <= 0.0300, which is 0.06 at 0.50 of the "
        "calibrated speed",
    ]


def test_models_whose_test_split_was_not_read(old: Manifest) -> None:
    untested = replace(old, test=None)
    assert "| not read |" in model_table([untested])[2]
    assert model_lines([untested])[1].split()[2] == "?"
