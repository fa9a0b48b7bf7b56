"""What is promised of a finalist is what its own graph took."""

from pathlib import Path

import pytest

from vitpareto.cost_models import CostModel
from vitpareto.search.delivery.deliver import deliver
from vitpareto.search.delivery.manifest import read_manifest
from vitpareto.search.delivery.shortlist import (
    ShortlistRow,
    corrected,
    error_facts,
    measure_shortlist,
)
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.predicted_costs import CostPredictor
from vitpareto.search.store.atomic_files import read_json
from vitpareto.spaces import Policy

from ...shared import everywhere
from ..made import Made


@pytest.fixture(scope="module")
def chosen(made: Made) -> list[Evaluation]:
    """A float network and one of 8 bits, evaluated."""
    other = everywhere(made.candidate, Policy(weight_bits=8, act_bits=8))
    return [made.evaluation(candidate) for candidate in (made.candidate, other)]


def test_networks_are_measured_once(made: Made, chosen: list[Evaluation], tmp_path: Path) -> None:
    kept = tmp_path / "shortlist.json"
    first = measure_shortlist(chosen[:1], made.model, made.device, kept)
    both = measure_shortlist(chosen, made.model, made.device, kept)
    assert [row.key for row in both] == [e.key for e in chosen]
    assert both[0] == first[0]  # to the last digit: read, not measured
    assert len(read_json(kept)) == 2
    for row, evaluation in zip(both, chosen, strict=True):
        assert row.predicted_ms == evaluation.metrics["latency_ms"]
        assert 0.2 < row.latency_ms / row.predicted_ms < 5  # another minute of the same machine


def test_the_model_of_another_machine_is_not_checked_on_this_one(
    made: Made, chosen: list[Evaluation], tmp_path: Path
) -> None:
    path = tmp_path / "model.json"
    made.model.save(path)
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 7'))
    kept = tmp_path / "shortlist.json"
    found = measure_shortlist(chosen, CostModel.load(path), made.device, kept)
    assert not found
    assert not kept.exists()


def test_intervals_move_with_what_was_measured(chosen: list[Evaluation]) -> None:
    key, before = chosen[0].key, chosen[0].metrics
    measured = [ShortlistRow(key, before["latency_ms"], 2 * before["latency_ms"])]
    moved, same = corrected(chosen, measured)
    assert same == chosen[1]
    for name in ("latency_ms", "low_ms", "high_ms"):
        assert moved.metrics[name] == 2 * before[name]
    assert moved.metrics["size_mb"] == before["size_mb"]


def test_errors_that_lean_to_one_side_show() -> None:
    even = error_facts(
        [ShortlistRow("a", 1.0, 1.1), ShortlistRow("b", 1.0, 1.0), ShortlistRow("c", 1.1, 1.0)]
    )
    assert even["slower_than_predicted"] == 0
    lean = error_facts(
        [ShortlistRow("a", 1.0, 1.1), ShortlistRow("b", 1.0, 1.2), ShortlistRow("c", 1.0, 1.3)]
    )
    assert lean["slower_than_predicted"] == lean["median_error"] == 20
    assert error_facts([]) == {}


def test_promised_is_what_the_shortlist_says(made: Made, tmp_path: Path) -> None:
    evaluation = made.evaluation(made.candidate)
    predicted = CostPredictor(made.model)(made.candidate)
    measured = [ShortlistRow(evaluation.key, 1.0, 3.0)]
    (finalist,) = corrected([evaluation], measured)
    promised = read_manifest(deliver(tmp_path, finalist, made.network, made.terms())).promised
    assert promised.latency_ms == pytest.approx(3 * predicted["latency_ms"])
    assert promised.high_ms == pytest.approx(3 * predicted["high_ms"])
    assert promised.size_mb == predicted["size_mb"]
