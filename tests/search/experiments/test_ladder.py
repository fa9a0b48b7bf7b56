"""The ladder: which models it compares, and that its figures are those of what was measured."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vitpareto.cost_models import CostModel
from vitpareto.search.delivery.decompression import policies
from vitpareto.search.experiments.ladder import INT8, baselines, has_weights, named, only_int8
from vitpareto.search.experiments.side_by_side import BATCHES, Entry, measure_entries
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.forward import predict
from vitpareto.spaces import Candidate, Policy, SearchSpace
from vitpareto.spaces.supernet import Supernet

from ..made import SPACE, Made, everywhere

pytestmark = pytest.mark.onnx
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


def test_no_file_is_left_behind(made: Made, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    measure_entries(
        [Entry("float32", made.candidate, made.network)], made.model, made.device, made.data, 8
    )
    assert not list(tmp_path.iterdir())
