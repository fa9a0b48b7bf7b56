"""The supernet has every parameter of every candidate, whatever stands in each other's way."""

import random
from contextlib import suppress
from typing import Any

import pytest
import torch

from vitpareto.spaces import SearchSpace, SpaceError
from vitpareto.spaces.mixers import find
from vitpareto.spaces.safe_yaml import parse_yaml
from vitpareto.spaces.supernet import Supernet

from .helpers import images

NEVER_WIDE = {"forbidden": [{"width": 32, "mixer": "linear"}]}
# Stages in which an earlier choice leaves no room for a later one, or fewer parts are larger.
STAGES = {
    "{window_size: 2, blocks: {mixer: [window, softmax], mixer_capacity: [1.0, 0.5]}}": {},
    "{width: [24, 32], num_heads: 3, head_dim: 0, mixer: [pool, softmax, linear]}": {},
    "{width: [32, 36], num_groups: 8, mixer: [pool, depthwise, cascaded]}": {},
    "{width: [16, 32], mixer: [softmax, linear]}": NEVER_WIDE,
    "{width: [16, 24, 32], depth: 2, blocks: {mixer: [softmax, linear]}}": NEVER_WIDE,
    "{width: 32, head_dim: 0, num_heads: [2, 4], mixer: [softmax, linear]}": {},
    "{num_groups: [2, 4], mixer: [pool, cascaded]}": {},
    "{width: [16, 32], num_heads: [2, 4], mixer: [softmax, linear]}": {
        "forbidden": [{"width": 32, "num_heads": 4}]
    },
}


def space(stage: dict[str, Any], **fields: Any) -> SearchSpace:
    """A space of tiny networks with one stage."""
    around = {"input_size": 32, "patch_size": 8, "num_classes": 3, "global_pool": "avg"}
    base = {"depth": 1, "width": 16, "num_heads": 2, "head_dim": 8}
    return SearchSpace({**around, **fields, "stages": [base | stage]})


def check(found: SearchSpace) -> None:
    """All candidates that are drawn run on the shared weights."""
    supernet = Supernet(found)
    with torch.no_grad():
        for candidate in dict.fromkeys(found.sample(12)):
            assert torch.isfinite(supernet(candidate, images(candidate, 1))).all()


@pytest.mark.parametrize("stage", STAGES)
def test_whatever_comes_first(stage: str) -> None:
    check(space(parse_yaml(stage, "stage"), **STAGES[stage]))


FIELDS: dict[str, list[Any]] = {
    **{"width": [16, 20, 24, 32], "num_heads": [1, 2, 3, 4], "num_groups": [2, 4, 8]},
    **{"kv_heads": [1, 2, 3], "window_size": [2, 4], "mixer_capacity": [1.0, 0.5]},
    **{"mlp_ratio": [0.0, 1.0, 2.0], "mlp_capacity": [1.0, 0.5], "kernel_size": [3, 5]},
}
MIXERS = ["softmax", "linear", "window", "pool", "grouped", "cascaded"]


def random_space(seed: int) -> SearchSpace:
    """Some mixers with some of their numbers, and two choices of which two values never meet."""
    rng = random.Random(seed)
    while True:
        mixers = rng.sample(MIXERS, 3)
        own = {name for mixer in mixers for name in find(mixer).spelled}
        general = {"width", "mlp_ratio", "mixer_capacity", "mlp_capacity"}
        names = rng.sample(sorted(FIELDS.keys() & (own | general)), 4)
        stage = {"mixer": mixers} | {name: rng.sample(FIELDS[name], 2) for name in names}
        clause = {name: rng.choice(stage[name]) for name in rng.sample(sorted(stage), 2)}
        with suppress(SpaceError):  # not every mixture is a space
            return space(stage, forbidden=[clause])


@pytest.mark.parametrize("seed", range(8))
def test_random_spaces(seed: int) -> None:
    check(random_space(seed))
