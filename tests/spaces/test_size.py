"""`size` is exact: it equals the number of candidates found by trying everything."""

from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vitpareto.spaces import Candidate, SearchSpace, SpaceError
from vitpareto.spaces.architecture import TOKEN_REDUCTIONS

FIXED = {"input_size": 32, "patch_size": 4, "global_pool": "avg", "num_heads": 2}
MOST = 1500  # assignments of a generated space


def enumerate_all(space: SearchSpace) -> dict[str, Candidate]:
    """Every candidate, by giving every value to every choice, valid together or not.

    What is not valid is repaired into something that is, so no candidate is missed or added.
    """
    names = [choice.name for choice in space.parameters]
    found = (
        space.candidate(dict(zip(names, values, strict=True)))
        for values in product(*(choice.values for choice in space.parameters))
    )
    return {candidate.key: candidate for candidate in found}


def stage(**fields: Any) -> dict[str, Any]:
    return {"depth": 2, "width": 16, **fields}


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "nothing to choose": (1, {"stages": [stage()]}),
    "shared by all blocks": (3, {"mlp_ratio": [1, 2, 3], "stages": [stage()]}),
    "drawn for each block": (9, {"stages": [stage(blocks={"mlp_ratio": [1, 2, 3]})]}),
    "drawn for each group": (
        9,
        {"stages": [stage(depth=4, groups={"size": 2, "mlp_ratio": [1, 2, 3]})]},
    ),
    "shared by stages": (
        2,
        {"width": [8, 16], "stages": [{"depth": 1}, {"depth": 1}]},
    ),
    "depth decides which blocks exist": (
        2 + 4 + 8,
        {"stages": [stage(depth=[1, 2, 3], blocks={"mlp_ratio": [1, 2]})]},
    ),
    "a choice that only one mixer reads": (
        1 + 2,
        {"stages": [stage(mixer=["softmax", "linear"], kernel_size=[3, 5])]},
    ),
    "the same, drawn for each block": (
        9,
        {"stages": [stage(blocks={"mixer": ["softmax", "linear"], "kernel_size": [3, 5]})]},
    ),
    "activation bits need integer weights": (
        2 + 1,
        {"stages": [stage(mlp_ratio=0)], "mixer_weight_bits": [32, 8], "act_bits": [32, 8]},
    ),
    "scales of weights need integers": (
        2 + 1,
        {
            "stages": [stage(mlp_ratio=0)],
            "mixer_weight_bits": [32, 8],
            "weight_scales": ["channel", "tensor"],
        },
    ),
    "bits of mixer and MLP in one choice": (2, {"weight_bits": [32, 8], "stages": [stage()]}),
    "bits of mixer and MLP apart": (
        4,
        {"mixer_weight_bits": [32, 8], "mlp_weight_bits": [32, 8], "stages": [stage()]},
    ),
    "where tokens are dropped matters if any are": (
        1 + 2,
        {"stages": [stage(token_keep=[1.0, 0.5], token_keep_at=["0", "1"])]},
    ),
    "a place that shallow networks do not have": (
        (1 + 1) + (1 + 2),
        {"stages": [stage(depth=[1, 2], token_keep=[0.5, 1.0], token_keep_at=["1", "0"])]},
    ),
    "how tokens are dropped matters if any are": (
        1 + 2,
        {"token_reduction": ["evit", "random"], "stages": [stage(token_keep=[1.0, 0.5])]},
    ),
    "which tokens get an MLP matters if not all do, and where there is one": (
        (1 + 3) + (1 + 3 * 3),
        {
            "token_routing": ["learned", "random"],
            "mlp_capacity": [1.0, 0.5],
            "stages": [stage(mixer="softmax", depth=[1, 2], blocks={"mlp_ratio": [0, 1]})],
        },
    ),
    "which tokens are mixed matters if not all are, and where there is anything to mix": (
        (1 + 2) + 1 + 1,  # and a window needs all
        {
            "token_routing": ["learned", "random"],
            "window_size": 4,
            "stages": [
                stage(
                    depth=1,
                    blocks={
                        "mixer": ["softmax", "identity", "window"],
                        "mixer_capacity": [1.0, 0.5],
                    },
                )
            ],
        },
    ),
    "after dropped tokens no mixer of the grid": (
        4 + (4 - 3),
        {
            "stages": [
                stage(
                    token_keep=[1.0, 0.5],
                    token_keep_at="0",
                    blocks={"mixer": ["softmax", "window"]},
                    window_size=4,
                )
            ]
        },
    ),
    "windows that fit the grid": (
        1 + 2,
        {"patch_size": [4, 8], "window_size": [4, 8], "stages": [stage(mixer="window")]},
    ),
    "the first stage is not downsampled into": (
        2,
        {"downsample": ["conv", "merge"], "stages": [stage(), stage()]},
    ),
    "condition": (
        2 + 1,
        {
            "norm": ["layer", "rms"],
            "mlp_ratio": [1, 2],
            "stages": [stage()],
            "conditions": [{"choice": "mlp_ratio", "when": {"norm": "layer"}}],
        },
    ),
    "condition on the block itself": (
        (2 + 1) ** 2,
        {
            "stages": [stage(blocks={"mixer": ["softmax", "linear"], "mlp_ratio": [1, 2]})],
            "conditions": [{"choice": "mlp_ratio", "when": {"mixer": "linear"}}],
        },
    ),
    "condition on a condition": (
        1 + 1 + 2,
        {
            "norm": ["layer", "rms"],
            "act": ["gelu", "relu"],
            "mlp_ratio": [1, 2],
            "stages": [stage()],
            "conditions": [
                {"choice": "act", "when": {"norm": "rms"}},
                {"choice": "mlp_ratio", "when": {"norm": "rms", "act": "relu"}},
            ],
        },
    ),
    "forbidden in one block": (
        3**2,
        {
            "stages": [stage(blocks={"mixer": ["softmax", "linear"], "mlp_ratio": [1, 2]})],
            "forbidden": [{"mixer": "linear", "mlp_ratio": 2}],
        },
    ),
    "forbidden across levels": (
        1 + 2 * 2,
        {
            "norm": ["layer", "rms", "batch"],
            "mixer": ["softmax", "linear"],
            "stages": [stage()],
            "forbidden": [{"norm": "batch", "mixer": ["linear"]}],
        },
    ),
    "branches matter where there is a convolution for them": (
        (1 + 2) + (2 + 2),
        {
            "reparam": [False, True],
            "stem": ["patch", "conv"],
            "stages": [stage(mixer=["softmax", "conv_next"], depth=1)],
        },
    ),
    "or where there is one between stages": (
        (1 + 2) + (2 + 2),
        {
            "reparam": [True, False],
            "downsample": ["merge", "conv"],
            "stages": [stage(depth=1), stage(depth=1, mixer=["softmax", "depthwise"])],
        },
    ),
    "nor in branches where its condition does not hold": (
        1 + 2,
        {
            **{"reparam": [False, True], "norm": ["layer", "rms"]},
            "stages": [stage(mixer="conv_next", depth=1)],
            "conditions": [{"choice": "reparam", "when": {"norm": "rms"}}],
        },
    ),
    "numbers of an inverted residual matter where there is one": (
        2 + 2 * 2 * 3,
        {
            "downsample": ["conv", "inverted"],
            **{"downsample_kernel": [3, 5], "downsample_ratio": [0, 2, 4]},
            "stages": [stage(depth=1), stage(depth=1, width=[8, 16])],
        },
    ),
    "pruning names what it leaves": (
        3,
        {"num_heads": 4, "mixer_prune_ratio": [0, 0.25, 0.5], "stages": [stage(mlp_ratio=0)]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_size_by_hand_and_by_brute_force(name: str) -> None:
    expected, spec = CASES[name]
    space = SearchSpace({**FIXED, **spec})
    assert space.size == expected
    assert len(enumerate_all(space)) == expected


def one_or_more(*values: Any) -> st.SearchStrategy[Any]:
    """One value or a choice among several."""
    lists = st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)
    return lists.map(lambda found: found if len(found) > 1 else found[0])


BLOCK = {
    "mixer": one_or_more("softmax", "grouped", "pooled", "window", "linear", "token_mlp", "pool"),
    "num_heads": one_or_more(1, 2, 4),
    "mlp_ratio": one_or_more(0.0, 1.0, 2.0),
    "kernel_size": one_or_more(3, 5),
    "window_size": one_or_more(2, 4),
    "weight_bits": one_or_more(32, 8, 4),
    "act_bits": one_or_more(32, 8),
    "weight_scales": one_or_more("", "channel", "tensor"),
    "mlp_weight_bits": one_or_more(32, 8),
    "prune_ratio": one_or_more(0.0, 0.5),
    "token_keep": one_or_more(1.0, 0.5, 0.7),
    "mlp_capacity": one_or_more(1.0, 0.5),
    "mixer_capacity": one_or_more(1.0, 0.5),
}
STAGE = BLOCK | {
    "token_keep_at": one_or_more("0", "1", "0,1"),
    "downsample": one_or_more("conv", "merge", "patch"),
}
NETWORK = {
    "patch_size": one_or_more(4, 8),
    "norm": one_or_more("layer", "rms", "group"),
    "token_reduction": one_or_more(*TOKEN_REDUCTIONS),
    "token_routing": one_or_more("learned", "random"),
    "reparam": one_or_more(False, True),
    "head_act_bits": one_or_more(32, 8),
    "head_weight_bits": one_or_more(32, 8),
}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Space files of one or two short stages."""

    def some(fields: dict[str, st.SearchStrategy[Any]], most: int) -> dict[str, Any]:
        names = draw(st.lists(st.sampled_from(sorted(fields)), max_size=most, unique=True))
        return {name: draw(fields[name]) for name in names}

    stages = [
        {
            "depth": draw(one_or_more(1, 2)),
            "width": draw(one_or_more(8, 16)),
            **some(STAGE, 2),
            "blocks": some(BLOCK, 2),
        }
        for _ in range(draw(st.integers(1, 2)))
    ]
    spec = {**FIXED, **some(NETWORK, 2), "stages": stages}
    tested = {"mixer": "softmax", "norm": "layer", "depth": 2, "num_heads": 2}
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(sorted(tested)), min_size=1, max_size=2, unique=True))
        spec["forbidden"] = [{name: tested[name] for name in names}]
    if draw(st.booleans()):
        when = draw(st.sampled_from(sorted(tested)))
        choice = draw(st.sampled_from(["mlp_ratio", "weight_bits", "kernel_size"]))
        spec["conditions"] = [{"choice": choice, "when": {when: tested[when]}}]
    return spec


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(specs())
def test_any_space_keeps_the_laws(spec: dict[str, Any]) -> None:
    try:
        space = SearchSpace(spec)
    except SpaceError as error:
        assert "\n" not in str(error)
        assume(False)
    assignments = 1
    for choice in space.parameters:
        assignments *= len(choice.values)
    assume(assignments <= MOST)
    everything = enumerate_all(space)
    assert space.size == len(everything)
    for candidate in [*space.sample(2), space.largest(), space.smallest()]:
        assert candidate.key in everything
        assert candidate in space
        assert space.candidate(space.assignment(candidate)) == candidate
        assert {other.key for other in space.neighbors(candidate)} < set(everything)
