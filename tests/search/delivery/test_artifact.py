"""What an artifact is: it stands alone, rebuilds its network, and refuses to be tampered with."""

import io
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import external_data_helper

from vitpareto.cost_models import Device
from vitpareto.cost_models.runtimes import Compiled
from vitpareto.search.data.dataset import Data, Images
from vitpareto.search.data.pixels import Look
from vitpareto.search.data.rows import Rows
from vitpareto.search.data.splits import SPLITS
from vitpareto.search.delivery import artifact, build
from vitpareto.search.delivery.artifact import Artifact, load_network, read_candidate, read_model
from vitpareto.search.delivery.changed_files import changed_file
from vitpareto.search.delivery.export import build_for, calibration, export_random
from vitpareto.search.delivery.formats import FORMATS
from vitpareto.search.delivery.holding import attempt
from vitpareto.search.delivery.manifest import manifests, read_manifest, write_manifest
from vitpareto.search.delivery.preprocessing import Preprocessing
from vitpareto.search.training import forward
from vitpareto.spaces import Policy
from vitpareto.spaces.errors import RunError

from ...shared import everywhere
from ..made import Made

pytestmark = pytest.mark.onnx
FILES = {"candidate.json", "model.onnx", "model.safetensors", "predict.py", "manifest.json"}


@pytest.fixture(scope="module")
def delivered(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.deliver(tmp_path_factory.mktemp("pareto"), made.candidate)


@pytest.fixture
def folder(delivered: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(delivered, tmp_path / delivered.name))


def test_one_line_rebuilds_the_network(made: Made, delivered: Path) -> None:
    network = load_network(delivered)
    state = made.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert read_candidate(delivered) == made.candidate


def test_everything_a_user_must_know_is_inside_the_file(made: Made, delivered: Path) -> None:
    assert {path.name for path in delivered.iterdir()} == FILES
    model = onnx.load(delivered / "model.onnx")
    about = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert about["key"] == delivered.name
    assert about["class_names"] == list(made.data.class_names)
    assert about["mean"] == list(made.data.mean)
    assert about["std"] == list(made.data.std)
    assert about["input_size"] == 16
    assert not {n.op_type for n in model.graph.node} & {"Dropout", "BatchNormalization", "Identity"}
    assert [o.version for o in model.opset_import if not o.domain] == [20]
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in shape] == [1, 1, 16, 16]


def test_float_artifacts_give_torchs_logits(made: Made, delivered: Path) -> None:
    split = made.data.split("validation")
    found = Artifact.load(delivered, made.device).logits(split)
    with torch.inference_mode():
        wanted = made.network(split.images)
    assert (found - wanted).abs().max() < 1e-4
    assert (found.argmax(1) == wanted.argmax(1)).double().mean() >= 0.999


class Watched:
    """Rows that note how many of them are asked for at once."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.most = rows, 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, len(index))
        return self._rows[index]


@pytest.mark.parametrize("batch", [1, 7, 48])
def test_large_splits_are_normalized_in_parts(
    made: Made, delivered: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (artifact, build, forward):
        monkeypatch.setattr(module, "BATCH", 40)
    split = made.data.split("validation")
    rows = Watched(split.rows)
    watched = replace(split, rows=rows)
    found = Artifact.load(delivered, made.device)
    plan = made.terms().build(made.candidate, made.network)
    wanted = forward.predict(made.candidate, made.network, split)
    assert len(split) > 48 and forward.predict(made.candidate, made.network, watched).equal(wanted)
    assert torch.allclose(plan.logits(watched), wanted, atol=1e-4)
    assert torch.allclose(replace(found, batch=1).logits(watched), wanted, atol=1e-4)
    assert rows.most == 40
    found = replace(found, batch=batch, compiled=Batches(found.compiled, batch))
    assert torch.allclose(found.logits(watched), wanted, atol=1e-4)
    assert rows.most == max(40, batch)


class Batches:
    """A model of one image that takes as many as it is told, and no others."""

    def __init__(self, compiled: Compiled, batch: int) -> None:
        self._compiled, self._batch = compiled, batch

    def run(self, images: np.ndarray) -> np.ndarray:
        assert len(images) == self._batch
        return np.concatenate([self._compiled.run(image[None]) for image in images])


@pytest.mark.parametrize("policy", [Policy(8, 8), Policy(8), Policy(4, 8), Policy(4), Policy(16)])
def test_compressed_artifacts_give_torchs_answers(
    made: Made, tmp_path: Path, policy: Policy
) -> None:
    candidate = everywhere(made.candidate, replace(policy, rank_ratio=0.5, sparsity=0.3))
    for c in (candidate, everywhere(made.candidate, policy)):
        plan = made.terms().build(c, made.network)
        checks, files = attempt(tmp_path / c.key, plan, 0.0, made.terms())
        assert all(check.holds for check in checks), checks
        assert set(files) == FILES - {"manifest.json"}


def test_torch_formats_give_the_same_logits(made: Made) -> None:
    form, device, about = (
        FORMATS["torchscript"],
        Device.load("torch-1t"),
        Preprocessing.of(made.data),
    )
    build = build_for(device, made.candidate, made.network, device.recipes, made.data, 64)
    program = io.BytesIO(form.companions(build, device, about)["model.pt2"])
    scripted = io.BytesIO(form.encode(build, device, about))
    x = made.data.split("validation").images[:1]
    facts = [{"about.json": ""}, {"about.json": ""}]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is on its way out
        wanted = made.network(x)
        found = [
            torch.export.load(program, extra_files=facts[0]).module()(x),
            torch.jit.load(scripted, _extra_files=facts[1])(x),
        ]
    for logits, fact in zip(found, facts, strict=True):
        assert (logits - wanted).abs().max() < 1e-5
        told = json.loads(fact["about.json"])
        assert told["key"] == made.candidate.key
        assert told["class_names"] == list(made.data.class_names)
        assert (told["input_size"], told["mean"]) == (16, list(made.data.mean))


def test_torch_formats_hold_rounded_weights(made: Made) -> None:
    candidate, device = everywhere(made.candidate, Policy(4, 8)), Device.load("torch-1t")
    build = build_for(device, candidate, made.network, device.recipes, made.data, 64)
    assert build.exact  # activations keep all bits
    program = FORMATS["torchscript"].companions(build, device, None)["model.pt2"]
    weight = torch.export.load(io.BytesIO(program)).state_dict["head.weight"]
    assert all(len(row.unique()) <= 15 for row in weight)


def test_random_weights_run_anywhere(made: Made, tmp_path: Path) -> None:
    path = tmp_path / export_random(tmp_path, made.candidate, made.device)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": np.zeros((1, 1, 16, 16), np.float32)})
    assert logits.shape == (1, 10)
    assert np.isfinite(logits).all()


# Bad input.


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_one_changed_byte_is_found(folder: Path, name: str) -> None:
    wanted = read_manifest(folder).files
    assert changed_file(folder, wanted) == ""
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / name).write_bytes(raw)
    assert changed_file(folder, wanted) == name
    (folder / name).unlink()
    with pytest.raises(RunError, match=f"{name}: missing"):
        changed_file(folder, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "newer than 1: it was written by a later release"),
        ({"format_version": "x"}, "must be a number, got 'x'"),
        ({"promised": {}}, "was edited"),
        ({"verified": True}, "was edited"),
        ({"files": None}, "was edited"),
    ],
)
def test_an_edited_manifest_is_refused(folder: Path, change: dict, message: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=message):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "needs names and values"),
        ('{"format_version": 1}', "lacks 'key'"),
        (None, "not JSON"),
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, text: str | None, message: str) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-20] if text is None else text)
    with pytest.raises(RunError, match=message):
        manifests(folder.parent)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "link"])
def test_a_manifest_names_no_file_outside_of_its_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("x")
    (folder / "link").symlink_to(folder.parent / "secret")
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, files={name: "0" * 64}))
    with pytest.raises(RunError, match="outside of the folder"):
        changed_file(folder, read_manifest(folder).files)


def test_a_manifest_of_another_model_is_refused(folder: Path) -> None:
    other = folder.rename(folder.with_name("0" * 16))
    with pytest.raises(RunError, match="not of its folder"):
        read_manifest(other)


@pytest.mark.parametrize("location", ["../../weights.bin", "/etc/passwd", "weights.bin"])
def test_external_data_is_not_followed(folder: Path, location: str) -> None:
    model = onnx.load(folder / "model.onnx")
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match="in another file, which is not followed"):
        read_model(folder / "model.onnx", FORMATS["onnx"])


def test_external_data_is_found_inside_of_nodes(tmp_path: Path) -> None:
    inner = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "inner")
    external_data_helper.set_external_data(inner, "../x")
    node = onnx.helper.make_node("Constant", [], ["c"], value=inner)
    body = onnx.helper.make_graph([node], "body", [], [])
    branch = onnx.helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    model = onnx.helper.make_model(onnx.helper.make_graph([branch], "g", [], []))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match="'inner' in another file"):
        read_model(path, FORMATS["onnx"])


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "candidate.json"])
def test_truncated_files_are_one_line(made: Made, folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((RunError, ValueError)) as caught:
        load_network(folder)
        Artifact.load(folder, made.device)
    assert "\n" not in str(caught.value)


def test_one_calibration_image_is_too_few_for_fixed_ranges(made: Made) -> None:
    candidate = everywhere(made.candidate, Policy(8, 8))
    with pytest.raises(RunError, match="need at least 8 images, got 1"):
        calibration(made.data, candidate, 1, ("float", "static8"))
    assert len(calibration(made.data, candidate, 1, ("float", "dynamic8"))) == 1


def test_few_images_are_of_all_classes_where_a_split_is_sorted_by_class(made: Made) -> None:
    labels = torch.arange(10).repeat_interleave(40)
    pixels = labels.byte().view(-1, 1, 1, 1).expand(-1, 1, 16, 16)  # as bright as its class
    look, classes = Look(16, 1, "squash"), tuple("0123456789")
    images = Images(classes, look, dict.fromkeys(SPLITS, pixels), dict.fromkeys(SPLITS, labels))
    data = Data("sorted", images)
    seen = calibration(data, made.candidate, 64, ("float",))
    assert len(seen) == 64 and len(seen[:, 0, 0, 0].unique()) == 10
    few, all_ = (data.split("train").some(count) for count in (8, 1000))
    assert len(all_) == 400 and few.labels.equal(all_.labels[:8])
    by_brightness = all_.images[:, 0, 0, 0].argsort(stable=True)
    assert all_.labels[by_brightness].equal(labels)
