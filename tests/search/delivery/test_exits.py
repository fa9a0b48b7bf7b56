"""A model with exits: delivered in parts, verified with real shares, and run by its program."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from vitpareto.cost_models import Device
from vitpareto.search.config import DataConfig
from vitpareto.search.data.loading import load_data
from vitpareto.search.delivery import tested, verify
from vitpareto.search.delivery.artifact import Artifact
from vitpareto.search.delivery.deliver import deliver
from vitpareto.search.delivery.exit_parts import read_rule
from vitpareto.search.delivery.export import check_runs, export_random
from vitpareto.search.delivery.handover import export_picked
from vitpareto.search.delivery.kit import pack
from vitpareto.search.delivery.manifest import Manifest, manifests, read_manifest
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.search.training.exits import fit_exits
from vitpareto.search.training.teacher import Lessons
from vitpareto.spaces import Candidate, Policy, SearchSpace
from vitpareto.spaces.errors import CostError, RunError
from vitpareto.spaces.networks import Network

from ...shared import everywhere, made_once
from ..made import SPACE, Made

pytestmark = pytest.mark.onnx
DROP = 0.02


def with_exit(candidate: Candidate) -> Candidate:
    a = candidate.architecture
    return replace(candidate, architecture=replace(a, stages=(replace(a.stages[0], exits="1"),)))


@pytest.fixture(scope="module")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model with an exit, in float32 and with bits of eight, both verified."""

    def make(folder: Path) -> None:
        (folder / "config.yaml").write_text("")
        for policy in (Policy(), Policy(8, 8)):
            plain = everywhere(made.candidate, policy)
            candidate = with_exit(plain)
            network = Network(candidate.architecture).eval()
            network.load_state_dict(network.state_dict() | made.network.state_dict())
            sure = torch.nn.functional.one_hot(made.data.train_labels, 10) * 6.0
            lessons = Lessons.of(made.data, sure[None])
            fit_exits(candidate, network, lessons, made.data.split("validation"), 64, 0)
            terms = replace(made.terms(), exit_drop=DROP)
            evaluation = replace(made.evaluation(plain), candidate=candidate)
            metrics = {**evaluation.metrics, **terms.costs(candidate)}
            deliver(folder / "pareto", Evaluation(candidate, "complete", metrics), network, terms)
        with RunFolder(folder) as kept:
            verify.verify_new(kept, made.device, made.data)
            tested.test_once(kept, made.device, load_data(DataConfig(), 16))  # sealed on its own

    return made_once(tmp_path_factory, "exits", make)


@pytest.fixture(scope="module")
def delivered(run: Path) -> list[Manifest]:
    return manifests(run / "pareto")


def test_answers_hold_and_shares_are_measured(
    made: Made, run: Path, delivered: list[Manifest]
) -> None:
    assert len(delivered) == 2
    split = made.data.split("validation")
    for manifest in delivered:
        told = {check.name: check for check in manifest.checks}
        assert told["images that leave as in torch"].holds
        assert all(c.holds for n, c in told.items() if "torch" in n or "artifact" in n)
        exits, metrics = manifest.exits, manifest.metrics
        assert exits and metrics and exits.shares and exits.part_ms and exits.whole_ms
        assert exits.after == [1] and len(exits.part_ms) == 2
        assert sum(exits.shares) == pytest.approx(1) and 0.3 < exits.shares[0] < 1
        # Shares times measured costs.
        mean = exits.part_ms[0] + exits.shares[1] * exits.part_ms[1]
        assert metrics.latency_ms == pytest.approx(mean)
        assert exits.low_ms and exits.high_ms
        assert exits.low_ms <= mean <= exits.high_ms <= sum(exits.part_ms) + 1e-9
        assert metrics.accuracy >= exits.whole_accuracy - DROP - 0.01
        files = [run / "pareto" / manifest.key / f"part_{n}.onnx" for n in (0, 1)]
        assert metrics.size_mb == pytest.approx(sum(f.stat().st_size for f in files) / 1e6)
        # What is promised is the mean at the shares that torch saw, with an interval.
        promised = manifest.promised
        assert promised.low_ms < promised.latency_ms < promised.high_ms
        assert manifest.test and exits.test_shares and exits.test_ms
        assert exits.test_ms == pytest.approx(
            exits.part_ms[0] + exits.test_shares[1] * exits.part_ms[1]
        )
        assert read_manifest(run / "pareto" / manifest.key) == manifest
        artifact = Artifact.load(run / "pareto" / manifest.key, made.device)
        every = artifact.answers(split).every
        assert every is not None
        whole = artifact.whole_logits(split)  # of model.onnx, which lies beside the parts
        assert (whole.argmax(1) == every[-1].argmax(1)).double().mean() > 0.98


def test_the_curve_holds_the_choice(delivered: list[Manifest]) -> None:
    for manifest in delivered:
        exits = manifest.exits
        assert exits
        costs = [point["relative_cost"] for point in exits.curve]
        shares = [point["accuracy"] for point in exits.curve]
        assert costs == sorted(costs) and shares == sorted(shares)
        chosen = next(p for p in exits.curve if p["leave_above"] == list(exits.above))
        assert chosen["accuracy"] >= exits.whole_accuracy - DROP - 1e-9


def test_the_program_answers_as_verified(
    made: Made, run: Path, delivered: list[Manifest], tmp_path: Path
) -> None:
    """It runs the second part only where the first is not sure."""
    folder = Path(shutil.copytree(run / "pareto" / delivered[0].key, tmp_path / "model"))
    artifact, rule = Artifact.load(folder, made.device), read_rule(folder)
    answers = artifact.answers(made.data.split("validation"))
    assert answers.part is not None
    names = list(made.data.class_names)
    chosen = [int((answers.part == p).nonzero()[0, 0]) for p in (0, 1)]
    for index in chosen:
        pixels = made.data.split("validation").images[index]
        about = made.data.mean[0], made.data.std[0]
        gray = ((pixels[0] * about[1] + about[0]) * 255).round().clamp(0, 255).byte().numpy()
        Image.fromarray(gray).save(tmp_path / f"{index}.png")
    files = [str(tmp_path / f"{index}.png") for index in chosen]

    def classes() -> list[str]:
        command = [sys.executable, str(folder / "predict.py"), *files, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return [row["classes"][0]["class"] for row in rows]

    wanted = [names[int(answers.logits[index].argmax())] for index in chosen]
    assert classes() == wanted
    # Without the second part only what leaves before it is answered.
    (folder / "part_1.onnx").write_bytes((folder / "part_0.onnx").read_bytes())
    spoiled = json.loads((folder / "exits.json").read_text())
    (folder / "exits.json").write_text(json.dumps(spoiled | {"leave_above": [0.0]}))
    assert answers.every is not None
    first = [names[int(answers.every[0, index].argmax())] for index in chosen]
    assert classes() == first
    assert len(rule.above) == 1


def test_other_runtimes_and_kits_refuse(made: Made, run: Path, tmp_path: Path) -> None:
    candidate = with_exit(made.candidate)
    for name in ("cpu-openvino", "cpu-ncnn", "torch-1t"):
        with pytest.raises(CostError, match="networks with exits run in onnxruntime, not in"):
            check_runs(candidate, Device.load(name))
    export_random(tmp_path, candidate, made.device)
    assert {f.name for f in tmp_path.iterdir()} >= {"model.onnx", "part_0.onnx", "part_1.onnx"}
    chosen = read_manifest(run / "pareto" / with_exit(made.candidate).key)
    path = export_picked(run / "pareto", lambda: made.data, chosen, None, tmp_path / "app")
    assert path.name == "part_0.onnx"
    with pytest.raises(CostError, match="run in onnxruntime, not in torch"):
        export_picked(run / "pareto", lambda: made.data, chosen, "torch", tmp_path / "other")
    with pytest.raises(RunError, match="has exits, which kits do not measure"):
        pack(RunFolder(run), SearchSpace.from_text(SPACE), made.data)


def test_a_damaged_rule_is_refused(
    made: Made, run: Path, delivered: list[Manifest], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run / "pareto" / delivered[0].key, tmp_path / "model"))
    for text in ("{}", "[1]", '{"leave_above": [0.5], "shares": [1.0], "after_blocks": [1]}'):
        (folder / "exits.json").write_text(text)
        with pytest.raises(RunError, match=r"exits\.json: not a rule of exits"):
            read_rule(folder)
    (folder / "part_1.onnx").unlink()
    with pytest.raises(RunError, match=r"part_1\.onnx: cannot be read"):
        Artifact.load(folder, made.device)
