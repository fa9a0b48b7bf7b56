"""How stages are led to: strides, inverted residuals, and activations of their own."""

from typing import Any

import pytest
import torch

from vitpareto.spaces import Architecture, Candidate, SearchSpace, SpaceError
from vitpareto.spaces.supernet import Supernet

from .helpers import difference, images, levit, mobile, randomize

STAGE: dict[str, Any] = {"depth": 1, "width": 16}
SPEC: dict[str, Any] = {
    **{"name": "stages", "input_size": 16, "patch_size": 4, "num_classes": 3},
    **{"global_pool": "avg", "pos_embed": "none", "mixer": "mbconv", "mlp_ratio": 2.0},
}


def space(*stages: dict[str, Any], **fields: Any) -> SearchSpace:
    return SearchSpace({**SPEC, "stages": [{**STAGE, **stage} for stage in stages], **fields})


def test_only_strides_of_2_halve_the_grid() -> None:
    """Nine stages on a grid of 4x4."""
    stays = {"downsample": "inverted", "stride": 1}
    deep = space({}, *[stays] * 7, {"downsample": "conv"}).largest().architecture
    assert [deep.side(i) for i in range(9)] == [4] * 8 + [2]

    with pytest.raises(SpaceError, match="doubled by each stage after the first"):
        space({}, {}, {}, {})


@torch.no_grad()
def test_choices_of_an_inverted_residual() -> None:
    """They matter where there is one, and candidates share weights and come back from JSON."""
    inner: dict[str, Any] = {"downsample_ratio": [0.0, 2.0], "downsample_kernel": [3, 5]}
    inner["downsample_se_ratio"] = [0.0, 0.5]
    inner |= {"downsample": ["conv", "inverted", "inverted_bias"], "stride": 1}
    found = space({}, inner | {"stage_act": "relu"})
    assert found.size == 1 + 8 + 8
    supernet = Supernet(found)
    randomize(supernet.state_dict())
    for candidate in {*found.sample(30)}:
        assert Candidate.from_json(candidate.to_json()) == candidate
        assert found.candidate(found.assignment(candidate)) == candidate
        assert candidate.architecture.act_of(1) == "relu"
        x = images(candidate)
        assert difference(supernet(candidate, x), supernet.extract(candidate)(x)) < 1e-5


@pytest.mark.parametrize("kind", ["attention", "inverted", "inverted_bias"])
def test_some_halve_grids_of_odd_sides(kind: str) -> None:
    """7x7 becomes 4x4, which no other downsampling may be given."""
    attends: dict[str, Any] = {"downsample": kind}
    found = space({}, attends, {**attends, "width": 24}, input_size=28)
    assert [found.largest().architecture.side(i) for i in range(3)] == [7, 4, 2]
    with pytest.raises(SpaceError, match="doubled by each stage after the first"):
        space({}, attends | {"downsample": [kind, "conv"]}, input_size=28)


@torch.no_grad()
def test_attention_that_halves_the_grid_is_a_choice() -> None:
    found = space({"width": [8, 16]}, {"downsample": ["conv", "attention"]}, downsample_head_dim=8)
    assert found.size == 4
    supernet = Supernet(found)
    randomize(supernet.state_dict())
    for candidate in {*found.sample(10)}:
        assert Candidate.from_json(candidate.to_json()) == candidate
        assert found.candidate(found.assignment(candidate)) == candidate
        x = images(candidate)
        assert difference(supernet(candidate, x), supernet.extract(candidate)(x)) < 1e-5


@pytest.mark.parametrize("architecture", [mobile(), levit()], ids=lambda _: "")
def test_candidates_say_it_all(architecture: Architecture) -> None:
    candidate = Candidate.uncompressed(architecture)
    assert Candidate.from_json(candidate.to_json()) == candidate


def test_an_activation_is_said_where_it_differs() -> None:
    plain = Candidate.uncompressed(mobile(act="relu"))
    assert '"act":"relu"' not in plain.to_json().partition("stages")[2]  # it is the network's


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 1, "downsample": "merge"}, "downsample 'merge' halves the grid, so its stride"),
        ({"stride": [1, 2]}, "stride: takes one value, not a choice"),
        ({"stride": 3}, "stride: must be between 1 and 2, got 3"),
        ({"stage_act": "swish"}, "stage_act: no such value 'swish'"),
        ({"downsample": "inverted", "downsample_kernel": 4}, "_kernel must be odd, not 4"),
        ({"downsample_kernel": [3, 5]}, "downsample_kernel: unreachable"),
        ({"downsample_head_dim": [8, 16]}, "downsample_head_dim: takes one value, not a choice"),
        (
            {"downsample": "inverted", "downsample_se_ratio": [0.4, 0.5]},
            "0.4 and 0.5 are both 8 beside a width of 16: two names for one network",
        ),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        space({}, fields)


def test_a_norm_before_the_head_needs_a_layer() -> None:
    assert space({}, head_hidden=8, head_norm=True).largest().architecture.head_norm
    for fields in ({}, {"head_hidden": 8, "norm": "batch"}):
        with pytest.raises(SpaceError, match="head_norm needs head_hidden above 0 and norm"):
            space({}, head_norm=True, **fields)


def test_a_layer_before_the_head_needs_an_average() -> None:
    with pytest.raises(SpaceError, match="head_hidden 8 goes with global_pool 'avg', not 'token'"):
        space({"mixer": "softmax", "num_heads": 2}, head_hidden=8, global_pool="token")
