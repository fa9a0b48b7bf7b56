"""Whatever is wrong with a run folder or an export: one line, exit 2 or 3, nothing overwritten."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import yaml
from onnx import external_data_helper

from vitpareto.cost_models.standalone.seal import hashes_of
from vitpareto.search.cli import commands as cli
from vitpareto.search.delivery.manifest import manifests, read_manifest, write_manifest
from vitpareto.spaces import Candidate, Policy, SearchSpace

from ...shared import everywhere
from ..made import SPACE, Made, copy_of_int8

pytestmark = pytest.mark.onnx
MODEL, WEIGHTS, CANDIDATE, MANIFEST = (
    *("model.onnx", "model.safetensors", "candidate.json", "manifest.json"),
)


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that it may be."""
        (line,) = self.err.splitlines()
        assert line.startswith("Error: ")
        return line


Command = Callable[..., Answer]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line as a shell sees it."""

    def run(*words: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["vitpareto", *map(str, words)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
                sys.exit(0)
        finally:
            signal.signal(signal.SIGTERM, before)
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def finished(made: Made, verified: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one verified model."""
    path = copy_of_int8(verified, made, tmp_path_factory.mktemp("run") / "run")
    (path / "space.yaml").write_text(SPACE)
    config = {"space": str(path / "space.yaml"), "device": {"name": "cpu-1t"}}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def artifact(run: Path) -> Path:
    (folder,) = run.glob("pareto/*")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def flip_a_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def points_outside(path: Path) -> None:
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    external_data_helper.set_external_data(tensor, "../../../secret")
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())


def reseal(folder: Path) -> None:
    """What somebody would do who edits a model and then the manifest."""
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, files=hashes_of(folder, list(manifest.files))))


@pytest.mark.parametrize(
    ("spoil", "name"),
    [(spoil, name) for spoil in (flip_a_byte, halve) for name in (MODEL, WEIGHTS, CANDIDATE)]
    + [(points_outside, MODEL)],
)
def test_changed_files_do_not_verify(
    command: Command, run: Path, artifact: Path, spoil: Callable[[Path], None], name: str
) -> None:
    spoil(artifact / name)
    before = contents(run)
    answer = command("verify", run)
    assert answer.code == 3
    assert answer.out == f"{artifact.name}  FAILED  files: {name}, wanted unchanged\n"
    (found,) = (m for m in manifests(run / "pareto") if m.key == artifact.name)
    assert not found.verified and f"files is {name}, wanted unchanged" in found.status
    out = run.with_name("out")
    assert name in command("export", run, "--out", out).line
    assert contents(run) == before and not out.exists()


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, CANDIDATE, MANIFEST])
def test_missing_files_are_named(command: Command, run: Path, artifact: Path, name: str) -> None:
    (artifact / name).unlink()
    for words in (["verify", run], ["export", run, "--out", run / "out"]):
        answer = command(*words)
        assert answer.code == 2
        assert str(artifact / name) in answer.line
    assert not (run / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m | {"format_version": 2}, "was written by a later release of vitpareto"),
        (lambda m: m | {"verified": True, "promised": {}}, "was edited"),
        (lambda m: m["metrics"], "not a manifest"),
        (lambda m: m | {"format_version": "1"}, "format_version must be a number, got '1'"),
    ],
)
def test_manifests_that_are_not_ours(
    command: Command, run: Path, artifact: Path, spoil: Callable[[dict], dict], message: str
) -> None:
    path = artifact / MANIFEST
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    for words in (["verify", run], ["export", run, "--out", run / "out"]):
        answer = command(*words)
        assert answer.code == 2
        assert str(path) in answer.line and message in answer.line
    assert not (run / "out").exists()


def test_external_data_is_not_followed_with_a_manifest_that_fits(
    command: Command, run: Path, artifact: Path
) -> None:
    (run.parent / "secret").write_bytes(bytes(10_000))
    points_outside(artifact / MODEL)
    reseal(artifact)
    answer = command("verify", run)
    assert answer.code == 2
    assert "in another file, which is not followed" in answer.line


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, CANDIDATE])
def test_damaged_files_with_a_manifest_that_fits(
    command: Command, run: Path, artifact: Path, name: str
) -> None:
    halve(artifact / name)
    reseal(artifact)
    answer = command("verify", run)
    assert answer.code == 2
    assert name in answer.line


@pytest.mark.parametrize("text", ["", "space: [", "spaze: x", "space: digits\nexport: 3"])
def test_a_damaged_run(command: Command, run: Path, text: str) -> None:
    (run / "config.yaml").write_text(text)
    for verb in ("verify", "report"):
        answer = command(verb, run)
        assert answer.code == 2
        assert "config.yaml" in answer.line


def test_a_folder_that_is_no_run(command: Command, tmp_path: Path) -> None:
    for words in (["verify", tmp_path], ["export", tmp_path, "--out", tmp_path / "out"]):
        assert "no run folder" in command(*words).line
    assert not list(tmp_path.iterdir())


def test_one_calibration_image_is_refused_before_anything_starts(
    command: Command, tmp_path: Path
) -> None:
    answer = command(
        *("search", "digits", "--run-dir", tmp_path / "run"),
        *("--set", "export.calibration_images=1"),
    )
    assert answer.code == 2
    assert "export.calibration_images" in answer.line and "8" in answer.line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runtime", "onxruntime"], "no such runtime 'onxruntime'. Did you mean 'onnxruntime'?"),
        (["--runtime", "openvino"], "needs openvino, which is not installed"),
        (["--pick", "fastes"], "Did you mean 'fastest'?"),
    ],
)
def test_targets_that_are_not_there(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "vitpareto.cost_models.runtimes.openvino", raising=False)
    answer = command("export", run, "--out", run / "out", *words)
    assert answer.code == 2
    assert message in answer.line
    assert not (run / "out").exists()


def test_a_run_whose_runtime_is_not_there(command: Command, run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"device": {"name": "cuda"}}))
    before = contents(run)
    answer = command("verify", run)
    assert answer.code == 2
    assert "needs CUDAExecutionProvider" in answer.line and "pip install" in answer.line
    assert contents(run) == before


def test_nothing_is_overwritten(command: Command, run: Path, tmp_path: Path) -> None:
    candidates = SearchSpace.from_text(SPACE).sample(3, seed=1)
    source, out = tmp_path / "candidates.json", tmp_path / "out"
    source.write_text(json.dumps([c.to_dict() for c in candidates]))
    words = ["export", source, "--random-weights", "--out", out]
    (out / candidates[1].key).mkdir(parents=True)
    answer = command(*words)
    assert answer.code == 2
    assert "exists already, nothing was written" in answer.line
    assert [path.name for path in out.iterdir()] == [candidates[1].key]
    words[-1] = tmp_path / "elsewhere"
    low = Candidate.uncompressed(candidates[0].architecture)
    source.write_text(json.dumps([low.to_dict(), everywhere(low, Policy(2, 8)).to_dict()]))
    assert "no recipe of this device" in command(*words, "--runtime", "openvino").line
    assert not (tmp_path / "elsewhere").exists()
    assert "give a run folder, or --random-weights" in command("export", source, "--out", out).line
    source.write_text("[]")
    assert "holds no candidate" in command(*words).line


def test_a_killed_export_leaves_no_half_file(tmp_path: Path) -> None:
    source, out = tmp_path / "candidates.json", tmp_path / "out"
    candidates = SearchSpace.from_text(SPACE).sample(40, seed=2)
    source.write_text(json.dumps([c.to_dict() for c in candidates]))
    words = ["export", source, "--random-weights", "--out", out]
    code = "import sys; from vitpareto.search.cli import main; sys.exit(main())"
    with subprocess.Popen([sys.executable, "-c", code, *map(str, words)]) as process:
        while process.poll() is None and len(list(out.glob("[!.]*"))) < 2:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = list(out.glob("[!.]*"))
    assert len(done) >= 2
    for folder in done:
        onnx.checker.check_model(onnx.load(folder / MODEL))
        assert {path.name for path in folder.iterdir()} == {MODEL, CANDIDATE}
