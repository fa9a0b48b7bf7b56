"""The ladder: which models it compares, and that its figures are those of what was measured."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitpareto.cost_models import CostModel
from vitpareto.search import console
from vitpareto.search.cli.text import ladder_lines
from vitpareto.search.delivery.decompression import policies
from vitpareto.search.delivery.manifest import manifests
from vitpareto.search.experiments.ladder import (
    INT8,
    PRECISIONS,
    baselines,
    deliver_best,
    front_of,
    has_weights,
    in_bits,
    in_precisions,
    named,
    only_int8,
    rewritten_entries,
    trained,
    with_linear_attention,
)
from vitpareto.search.experiments.side_by_side import (
    BATCHES,
    Entry,
    LadderRow,
    Rewritten,
    entry_of,
    measure_entries,
    speed_beside,
)
from vitpareto.search.report.rewrites import changes
from vitpareto.search.run.assets import Run
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.forward import predict
from vitpareto.spaces import Architecture, Block, Candidate, Policy, SearchSpace, Stage
from vitpareto.spaces.errors import CostError
from vitpareto.spaces.networks import Network
from vitpareto.spaces.supernet import Supernet

from ...shared import everywhere
from ..made import SPACE, Made

pytestmark = pytest.mark.onnx
TINY = {"input_size": 16, "in_chans": 1, "num_classes": 4, "patch_size": 4, "global_pool": "avg"}
WITH_LINEAR = SPACE + "    mixer: [softmax, linear]\n    kernel_size: 3\n"


def latency(model: CostModel, candidate: Candidate) -> float:
    return float(model.predict([candidate]).latency_ms[0])


class Priced:
    """A device on which each sub-block in int8 saves time, the head the most."""

    def predict(self, candidates: list[Candidate]) -> SimpleNamespace:
        costs = [sum(map(self.price, policies(c).items())) for c in candidates]
        return SimpleNamespace(latency_ms=np.array(costs))

    def price(self, item: tuple[str, Policy]) -> float:
        place, policy = item
        return 1.0 if policy != INT8 else 0.2 if place == "head" else 0.5


def test_int8_alone_goes_only_as_far_as_it_must(made: Made) -> None:
    places = list(policies(made.candidate))
    start = float(len(places))
    assert only_int8(made.candidate, Priced(), start) == made.candidate
    for limit, wanted in ((start - 0.7, 1), (start - 1.0, 2), (0.0, len(places))):
        found = policies(only_int8(made.candidate, Priced(), limit))
        assert found["head"] == INT8
        assert list(found.values()).count(INT8) == wanted


def test_baselines_are_of_the_space(made: Made) -> None:
    space = SearchSpace.from_text(WITH_LINEAR)
    assignment = {c.name: min(c.values) for c in space.parameters if c.name.endswith("mlp_ratio")}
    target = Candidate.uncompressed(space.candidate(assignment).architecture)
    found = baselines(space, made.model, target)
    assert list(found) == ["original", "linear attention", "int8 only", "pruning only"]
    limit = latency(made.model, target)
    assert latency(made.model, found["pruning only"]) <= limit * 1.001
    mixers = {b.mixer for b in found["linear attention"].architecture.blocks()}
    assert mixers == {"linear"}
    assert all(has_weights(Supernet(space), candidate) for candidate in found.values())
    for name, candidate in found.items():
        said = named(name, candidate, made.model, target)
        slow = latency(made.model, candidate) > 1.05 * limit
        assert said == name or (slow and said == f"{name}, fastest")
        assert said != name or not slow or name in ("original", "linear attention")
    plain = SearchSpace.from_text(SPACE)
    assert "linear attention" not in baselines(plain, made.model, target)
    assert not has_weights(Supernet(plain), found["linear attention"])


def test_everything_is_measured_side_by_side(made: Made) -> None:
    entries = [
        Entry("original", made.candidate, made.network, eager=True),
        Entry("float32", made.candidate, made.network),
        Entry("float16", everywhere(made.candidate, Policy(16)), made.network),
        Entry("int8", everywhere(made.candidate, INT8), made.network),
    ]
    rows = measure_entries(entries, made.model, made.device, made.data, 64)
    by_name = {row.name: row for row in rows}
    assert list(by_name) == [entry.name for entry in entries]
    split = made.data.split("validation")
    for entry, row in zip(entries, rows, strict=True):
        wanted = accuracy(predict(entry.candidate, made.network, split), split.labels)
        assert row.accuracy == pytest.approx(wanted["accuracy"], abs=0.01)
        assert row.latency_p10_ms <= row.latency_ms <= row.latency_p90_ms
        assert list(row.throughput) == list(BATCHES)
        assert row.throughput[1] == pytest.approx(1e3 / row.latency_ms)
        assert np.isfinite(list(row.throughput.values())).all()
    assert by_name["original"].runtime == "PyTorch eager"
    assert by_name["float16"].size_mb < 0.65 * by_name["float32"].size_mb
    assert by_name["int8"].size_mb < by_name["float16"].size_mb
    assert by_name["float32"].latency_ms < by_name["original"].latency_ms


def test_latency_is_that_of_a_run_of_the_device(made: Made) -> None:
    """With which that of delivered models is compared, be it of one image or of several."""
    entries = [
        Entry("original", made.candidate, made.network, eager=True),
        Entry("float32", made.candidate, made.network),
    ]
    device = replace(made.device, batch=8)
    rows = measure_entries(entries, made.model, device, made.data, 64, batches=[1])
    split = made.data.split("validation")
    wanted = accuracy(predict(made.candidate, made.network, split), split.labels)
    for row in rows:
        assert list(row.throughput) == [1, 8]
        assert row.throughput[8] == pytest.approx(8e3 / row.latency_ms)
        assert row.accuracy == pytest.approx(wanted["accuracy"], abs=0.01)


def test_rewrites_are_measured_beside_what_they_change(made: Made) -> None:
    plain = Entry("float32", made.candidate, made.network)
    entries = rewritten_entries([plain])
    assert [entry.rewrite for entry in entries] == ["layer_to_rms", "layer_to_rms_naive"]
    rows = measure_entries([plain, *entries], made.model, made.device, made.data, 64, batches=[1])
    told = [row.to_dict() for row in rows]
    bits, (exact, lossy) = changes(told, "accuracy")
    assert bits == []
    assert (exact.beside, exact.label, exact.accuracy) == ("float32", "exact", 0)
    assert exact.moved < 1e-5 and lossy.label == "lossy" and lossy.moved > 1e-3
    assert exact.latency == rows[1].latency_ms / rows[0].latency_ms
    lines = ladder_lines(told, "accuracy", [])
    assert sum("layer_to_rms" in line for line in lines) == 2 == sum("moved" in x for x in lines)


def test_each_precision_is_measured_beside_the_bits_that_were_chosen(made: Made) -> None:
    candidate = everywhere(made.candidate, Policy(4, 8, sparsity=0.5, weight_scales="block64"))
    chosen = Entry("searched x", candidate, made.network)
    entries = in_precisions([chosen], made.model)
    assert [entry.rewrite for entry in entries] == [*PRECISIONS]
    for entry in entries:
        assert {*policies(entry.candidate).values()} == {
            Policy(*bits_of(PRECISIONS[entry.rewrite]), sparsity=0.5)
        }
    rows = measure_entries([chosen, *entries], made.model, made.device, made.data, 64, [1, 2])
    assert [list(row.throughput) for row in rows] == [[1, 2], [1], [1], [1]]
    told = [row.to_dict() for row in rows]
    bits, operations = changes(told, "accuracy")
    assert operations == [] and {c.beside for c in bits} == {"searched x"}
    assert [(c.name, c.label) for c in bits] == [(name, "") for name in PRECISIONS]
    assert bits[0].size > bits[1].size > bits[2].size > 1
    assert bits[1].latency == rows[2].latency_ms / rows[0].latency_ms
    title, *lines = ladder_lines(told, "accuracy", [])[-4:]
    assert title.startswith("in one precision throughout")
    assert all(name in line for name, line in zip(PRECISIONS, lines, strict=True))


def bits_of(policy: Policy) -> tuple[int, int]:
    return policy.weight_bits, policy.act_bits


def test_a_precision_that_a_model_has_or_no_device_runs_is_left_out(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    convolution = Block("mbconv", kernel_size=3, mlp_hidden=32)  # which is its mixer's
    blocks = (Block("pool", mlp_hidden=16), Block("pool"), convolution)
    pooled = Architecture((Stage(16, blocks),), **TINY)
    plain = Candidate.uncompressed(pooled)
    int8 = in_bits(plain, INT8)
    stage = int8.compression.stages[0]
    assert {*stage.mixer[:2], *stage.mlp[1:]} == {Policy()}, "there are no weights"
    assert stage.mlp[0] == stage.mixer[2] == int8.compression.head == INT8
    assert in_bits(int8, INT8) == int8 and in_bits(int8, Policy()) == plain

    class Float32:
        """The cost model of a device that computes in nothing else."""

        def predict(self, candidates: list[Candidate]) -> None:
            if candidates != [plain]:
                raise CostError("no recipe")

    caplog.set_level("INFO")
    (entry,) = in_precisions([Entry("a", int8, Network(pooled))], Float32())
    assert (entry.name, entry.candidate) == ("a, float32", plain)
    assert "ladder: a without float16: the device does not run it" in caplog.text
    assert "without int8" not in caplog.text


def test_rewrites_that_do_not_suit_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pools = Architecture((Stage(16, (Block("pool", mlp_hidden=16),)),), **TINY)
    grid = Entry("a", Candidate.uncompressed(pools), Network(pools).eval())
    (naive,) = rewritten_entries([grid])
    assert naive.name == "a, layer_to_rms_naive"
    assert naive.network(torch.zeros(2, 1, 16, 16)).shape == (2, 4)
    assert "a without layer_to_rms: mixer 'pool' writes what cannot be centered" in caplog.text


def test_no_file_is_left_behind(made: Made, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    measure_entries(
        [Entry("float32", made.candidate, made.network)], made.model, made.device, made.data, 8
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Iterator[Run]:
    path = Path(shutil.copytree(finished, tmp_path / "run"))
    with RunFolder(path) as folder, Run(folder) as run:
        yield run


def linear_of(run: Run) -> Candidate:
    original = Candidate.uncompressed(run.space.largest().architecture)
    candidate = with_linear_attention(original, run.space)
    assert candidate
    return candidate


def test_progress_names_the_model_and_a_stopped_ladder_goes_on(
    opened: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "EVERY_S", 0.0)
    wanted = {
        "original": Candidate.uncompressed(opened.space.largest().architecture),
        "linear attention": linear_of(opened),
    }
    first = trained(opened, {"original": wanted["original"]})
    assert "ladder 1 of 1: original: " in capsys.readouterr().err
    made = trained(opened, wanted)
    said = capsys.readouterr().err
    assert "ladder 2 of 2: linear attention: " in said and " left" in said
    assert "original" not in said  # it was trained before
    assert list(made) == list(wanted)
    before, after = (e["original"].network.state_dict() for e in (first, made))
    assert all(before[name].equal(after[name]) for name in before)
    assert not list(opened.folder.ladder_models.rglob("training*"))


def test_a_baseline_that_no_delivered_model_beats_is_delivered(opened: Run) -> None:
    pareto, candidate = opened.folder.pareto, linear_of(opened)
    network = opened.ensure_supernet().extract(candidate)
    split = opened.data.split("validation")
    made = {"linear attention": Entry("linear attention", candidate, network)}
    figures = {"latency_p10_ms": 0.1, "latency_p90_ms": 0.1, "throughput": {1: 1.0}}
    row = LadderRow(
        "linear attention",
        candidate.key,
        opened.device.runtime,
        **accuracy(predict(candidate, network, split), split.labels),
        latency_ms=1e-4,
        peak_memory_mb=1.0,
        size_mb=1.0,
        **figures,
    )
    before, read_before = manifests(pareto), json.loads(opened.folder.test_seal.read_text())
    slow = replace(row, latency_ms=1e4, size_mb=1e4, accuracy=0.0)
    eager = replace(row, runtime="PyTorch eager")
    swapped = replace(row, rewrite=Rewritten("layer_to_rms", True, row.name, 0.0))
    for other in (slow, eager, swapped):
        assert front_of(opened, made, [other], before) == {}
    config = opened.config
    limited = config.search.model_copy(update={"limits": {"size_mb": 0.5}})
    opened.config = config.model_copy(update={"search": limited})
    assert front_of(opened, made, [row], before) == {}
    opened.config = config
    deliver_best(opened, made, [row])
    after = {m.key: m for m in manifests(pareto)}
    new = after.pop(candidate.key)
    assert new.ladder == "linear attention" and new.metrics and new.test and new.checks
    assert new.promised.accuracy == row.accuracy
    assert after.keys() == {m.key for m in before}
    for m in before:
        assert after[m.key].test == m.test and after[m.key].ladder is None
    readings = json.loads(opened.folder.test_seal.read_text())
    assert readings[:-1] == read_before and readings[-1]["forced"]
    assert front_of(opened, made, [row], manifests(pareto)) == {}  # nothing is delivered twice
    deliver_best(opened, made, [row])
    assert json.loads(opened.folder.test_seal.read_text()) == readings
    lines = ladder_lines([row.to_dict()], "balanced_accuracy", [new])
    assert "balanced accuracy" in lines[0] and f"{row.balanced_accuracy:.1%}" in lines[1]
    assert lines[-1].startswith(f"linear attention is on the front and delivered: {new.key}")


def test_latencies_are_told_at_the_speed_of_the_calibration(opened: Run) -> None:
    (m, *_) = manifests(opened.folder.pareto)
    entry, count = entry_of(opened.folder.pareto, m), opened.config.export.calibration_images
    model = opened.ensure_cost_model()
    (read,) = measure_entries([entry], model, opened.device, opened.data, count, batches=[1])
    assert list(read.throughput) == [1]
    speed = speed_beside([read], [m])
    told = read.at_calibrated_speed(speed)
    assert told.latency_ms == pytest.approx(m.measured().calibrated_ms)
    assert told.latency_ms * told.throughput[1] == pytest.approx(1e3)
    assert told.speed == speed and speed_beside([], [m]) == 1.0
