"""A build makes each of its parts once, and only what somebody asks for."""

from dataclasses import replace

import pytest
import torch

from vitpareto.search.compress import calibrate, run
from vitpareto.search.delivery.build import Build
from vitpareto.search.delivery.checks import check_size
from vitpareto.search.delivery.export import build_for
from vitpareto.search.delivery.formats import format_of
from vitpareto.search.scoring.predicted_costs import CostPredictor
from vitpareto.spaces import Policy, Scalar

from ...shared import everywhere
from ..made import Made

STATIC = ("float", "static8", "stored8")


def built(made: Made, policy: Policy, recipes: tuple[str, ...]) -> Build:
    candidate = everywhere(made.candidate, policy)
    return build_for(made.device, candidate, made.network, recipes, made.data, 64)


def test_the_network_is_prepared_once_and_the_trained_one_stays(made: Made) -> None:
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    build = built(made, Policy(8, 8, rank_ratio=0.5), STATIC)
    assert build.ready is build.ready and build.seen is build.seen
    assert replace(build, compensate=True).ready is not build.ready
    assert all(v.equal(before[name]) for name, v in made.network.state_dict().items())


@pytest.mark.parametrize("recipes", [STATIC, ("float", "dynamic8", "stored8")], ids=lambda r: r[1])
def test_ranges_are_looked_for_only_where_they_are_fixed(
    made: Made, recipes: tuple[str, ...]
) -> None:
    build = built(made, Policy(8, 8, sparsity=0.3), recipes)
    split = made.data.split("search")
    assert bool(build.seen.entering) == (recipes is STATIC)
    assert not build.exact
    params = build.ready.state_dict()
    ranges = calibrate(build.ready, params, build.candidate, build.images, recipes)
    with torch.no_grad():
        wanted = run(build.ready, params, build.candidate, split.images, recipes, ranges)
    assert build.logits(split).equal(wanted)


def test_what_computes_in_float32_is_exact(made: Made) -> None:
    assert built(made, Policy(8, 32), STATIC).exact
    assert not built(made, Policy(8, 8), STATIC).exact


ZEROS: list[dict[str, Scalar]] = [{"sparsity": 0.9}, {"n_m": "2:4"}, {"block_sparsity": 0.5}]


@pytest.mark.parametrize("zeros", ZEROS, ids=str)
def test_zeros_make_a_model_smaller_and_no_faster(made: Made, zeros: dict[str, Scalar]) -> None:
    """As was predicted, to the size that a delivery is held to."""
    costs, sizes, latencies = CostPredictor(made.model), list[float](), set[float]()
    for policy in (Policy(8, 8), Policy(8, 8, **zeros)):
        build = built(made, policy, ("float", "dynamic8"))
        content = format_of(made.device).encode(build, made.device, None)
        predicted = costs(build.candidate)
        assert check_size(len(content) / 1e6, predicted["size_mb"]).holds
        assert len(content) / 1e6 > 0.9 * predicted["size_mb"] - 0.002
        latencies.add(predicted["latency_ms"])
        sizes.append(predicted["size_mb"])
    assert sizes[1] < sizes[0] and len(latencies) == 1
