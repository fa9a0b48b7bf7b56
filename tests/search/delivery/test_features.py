"""Features: maps that a detector stands on, from a delivered model, in its own precision."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from vitpareto.search.delivery import features
from vitpareto.search.delivery.artifact import load_network
from vitpareto.search.delivery.manifest import manifests
from vitpareto.spaces import Policy
from vitpareto.spaces.errors import ConfigError, RunError
from vitpareto.spaces.networks.backbone import Backbone

from ...shared import everywhere
from ..made import Made

pytestmark = pytest.mark.onnx


@pytest.fixture(scope="module")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    pareto = tmp_path_factory.mktemp("run") / "pareto"
    rounded = everywhere(made.candidate, Policy(8, 8))
    folders = [made.deliver(pareto, candidate) for candidate in (made.candidate, rounded)]
    by_key = {m.key: m for m in manifests(pareto)}
    exact, int8 = (by_key[folder.name] for folder in folders)
    return SimpleNamespace(pareto=pareto, data=made.data, exact=exact, int8=int8)


def exported(
    run: SimpleNamespace, name: str, out: Path, size: int | None = None, runtime: str | None = None
) -> Path:
    chosen = getattr(run, name)
    return features.export_features(run.pareto, lambda: run.data, chosen, runtime, size, out)


@pytest.mark.parametrize(
    ("name", "size", "runtime"), [("exact", 24, "openvino"), ("int8", None, None)]
)
def test_the_file_gives_the_maps_of_the_trained_network(
    run: SimpleNamespace, tmp_path: Path, name: str, size: int | None, runtime: str | None
) -> None:
    path = exported(run, name, tmp_path, size, runtime)
    about = json.loads((path.parent / "features.json").read_text())
    side = size or 16
    (row,) = about["outputs"]
    assert row == {"name": "stage_1", "stride": 4, "channels": 32, "size": [side // 4] * 2}
    assert about["verified"] is False and about["input"]["shape"] == [1, 1, side, side]
    assert about["input"]["image"]["size"] == side, "an image is not made small before it is large"
    assert set(about["files"]) == {p.name for p in path.parent.iterdir()} - {"features.json"}

    x = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(1))
    session = ort.InferenceSession(path)
    assert [o.name for o in session.get_outputs()] == ["stage_1"]
    (found,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        (expected,) = Backbone.of(load_network(path.parent))(x)
    off = np.abs(found - expected.numpy()).mean() / expected.abs().mean().item()
    assert off < 1e-5 if name == "exact" else 1e-4 < off < 0.1
    integers = {"MatMulInteger", "ConvInteger"} & {n.op_type for n in onnx.load(path).graph.node}
    assert bool(integers) == (name == "int8")


def test_a_batch_may_be_larger_than_the_images_are_many(
    run: SimpleNamespace, tmp_path: Path
) -> None:
    device = replace(run.exact.device, batch=512)
    assert run.data.count("validation") < device.batch
    run = SimpleNamespace(**vars(run) | {"exact": replace(run.exact, device=device)})
    about = json.loads((exported(run, "exact", tmp_path).parent / "features.json").read_text())
    assert about["input"]["shape"] == [512, 1, 16, 16]


def test_what_cannot_be_exported_is_refused(run: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"litert does not read ONNX files, in which maps are"):
        exported(run, "exact", tmp_path, runtime="litert")
    with pytest.raises(RunError, match=r"exists already, nothing was written"):
        (tmp_path / f"{run.exact.key}-features").mkdir()
        exported(run, "exact", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{run.exact.key}-features"]


def test_a_wrong_file_is_not_written(
    run: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(model: bytes, images: np.ndarray) -> list[np.ndarray]:
        return [2 * value for value in outputs_of(model, images)]

    outputs_of = features.outputs_of
    monkeypatch.setattr(features, "outputs_of", off)
    with pytest.raises(RunError, match=r"the maps in the file are 1 away from torch's"):
        exported(run, "exact", tmp_path)
    assert not [*tmp_path.iterdir()]
