"""Mean latency: shares of the images times what each part takes."""

from dataclasses import replace

import numpy as np
import pytest

from vitpareto.cost_models import CostModel, Device
from vitpareto.cost_models.measure.runnable import runnable
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import CostError

DEEP = 3


@pytest.fixture(scope="module")
def model(fitted: CostModel) -> CostModel:
    return fitted


@pytest.fixture(scope="module")
def candidate(space: SearchSpace) -> Candidate:
    found = next(c for c in space.sample(200, 3) if len(c.architecture.stages[0].blocks) >= DEEP)
    a = found.architecture
    first, *others = a.stages
    return replace(found, architecture=replace(a, stages=(replace(first, exits="1,2"), *others)))


def test_the_mean_is_shares_times_costs(model: CostModel, candidate: Candidate) -> None:
    parts = np.array(model.exit_ms(candidate))
    plain = model.predict([candidate.without_exits()]).row(0)
    for leaving in ((0.0, 0.0), (1.0, 0.0), (0.25, 0.5)):
        told = {candidate.to_json(): leaving}
        found = model.predict([candidate], leaving=told).row(0)
        reach = np.array([1, 1 - leaving[0], (1 - leaving[0]) * (1 - leaving[1])])
        assert found["latency_ms"] == pytest.approx(reach @ parts)
        assert found["low_ms"] < found["latency_ms"] < found["high_ms"]
    assert parts.sum() > plain["latency_ms"] > parts[0]  # as heads and files are more
    usual = model.predict([candidate]).row(0)
    assert usual["latency_ms"] == pytest.approx(np.array([1, 0.5, 0.25]) @ parts)
    assert usual["size_mb"] > plain["size_mb"]


def test_sub_blocks_add_up(model: CostModel, candidate: Candidate) -> None:
    listed = sum(ms for _, _, ms in model.sub_blocks(candidate)) + model.rest_ms(candidate)
    assert listed == pytest.approx(model.predict([candidate]).latency_ms[0])


def test_others_cost_what_they_did(
    model: CostModel, space: SearchSpace, candidate: Candidate
) -> None:
    others = space.sample(20, 1)
    alone, beside = model.predict(others), model.predict([*others[:7], candidate, *others[7:]])
    for name in ("latency_ms", "low_ms", "high_ms", "size_mb", "peak_memory_mb"):
        assert np.delete(getattr(beside, name), 7).tolist() == getattr(alone, name).tolist()


def test_runtimes_without_parts_refuse(model: CostModel, candidate: Candidate) -> None:
    elsewhere = CostModel.from_dict(model.to_dict())
    for change, words in (
        ({"runtime": "openvino"}, "run in onnxruntime, not in openvino"),
        ({"batch": 4}, "one image at a time, not a batch of 4"),
    ):
        elsewhere.identity = {**model.identity, **change}
        with pytest.raises(CostError, match=words):
            elsewhere.predict([candidate])


def test_a_space_goes_without_exits_where_they_cannot_run() -> None:
    text = "{input_size: 8, patch_size: 4, global_pool: avg, num_heads: 1, num_classes: 2, "
    text += "exits: [none, 1], stages: [{depth: 2, width: 8, mlp_ratio: [1, 2]}]}"
    space, device = SearchSpace.from_text(text), replace(Device.load("cpu-1t"), batch=2)
    narrowed, refusals = runnable(device, space)
    assert (space.size, narrowed.size) == (4, 2)
    assert [str(r) for r in refusals] == [
        "exits 1 (networks with exits take one image at a time, not a batch of 2)"
    ]
    only = SearchSpace(space.spec | {"exits": "1"})
    with pytest.raises(CostError, match=r"cannot execute exits 1 .*take one image at a time"):
        runnable(device, only)
