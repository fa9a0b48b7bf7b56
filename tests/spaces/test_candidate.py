"""A candidate is data: canonical, the same in every process, and read back as it was written."""

import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest

from vitpareto.spaces import (
    Block,
    Candidate,
    Policy,
    SearchSpace,
    SpaceError,
    StagePolicy,
    UnknownNameError,
)
from vitpareto.spaces.mixers import MIXERS, find, numbers
from vitpareto.spaces.space import PRESETS

from .helpers import small

PLAIN = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=48)
GOLDEN = """{
  "architecture": {
    "input_size": 32, "patch_size": 4, "num_classes": 5, "global_pool": "avg",
    "stages": [{"width": 24, "blocks": [
      {"mixer": "softmax", "num_heads": 2, "head_dim": 8, "mlp_hidden": 48, "token_keep": 0.7},
      {"mixer": "grouped", "num_heads": 2, "head_dim": 8, "kv_heads": 1, "mlp_hidden": 48}
    ]}]
  },
  "compression": {"stages": [{"mlp": [{"weight_bits": 8, "act_bits": 8}, {}]}]}
}"""


def test_round_trip(candidates: list[Candidate]) -> None:
    for candidate in candidates:
        assert Candidate.from_json(candidate.to_json()) == candidate
        assert json.loads(candidate.to_json())["version"] == 1
    assert len({candidate.key for candidate in candidates}) == len(set(candidates))


def test_keys_are_the_same_in_every_process() -> None:
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    code = f"""
from vitpareto.spaces import SearchSpace
for name in {names}:
    print(*(c.key for c in SearchSpace.from_yaml(name).sample(3, seed=7)))
"""
    environment = os.environ | {"PYTHONHASHSEED": "1234"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    for name, line in zip(names, found.stdout.splitlines(), strict=True):
        assert line.split() == [c.key for c in SearchSpace.from_yaml(name).sample(3, seed=7)]


def test_golden_key() -> None:
    """A change of this key orphans every table, cache and run folder: it needs a new version."""
    assert Candidate.from_json(GOLDEN).key == "197c3978ce555a84"


def test_key_tells_all_differences(space: SearchSpace, candidates: list[Candidate]) -> None:
    for candidate in candidates[:2]:
        neighbors = space.neighbors(candidate)
        keys = {other.key for other in neighbors}
        assert len(keys) == len(neighbors) > 10
        assert candidate.key not in keys


@pytest.mark.parametrize("mixer", MIXERS)
def test_fields_without_effect_are_dropped(mixer: str) -> None:
    given = Block(mixer, mlp_hidden=48, **{name: n + 1 for n, name in enumerate(numbers())})
    kept = small(given).stages[0].blocks[0]
    assert kept.mlp_hidden == 48
    for name in numbers():
        wanted = getattr(given, name) if name in find(mixer).fields else getattr(Block(), name)
        assert getattr(kept, name) == wanted


def test_numbers_are_data() -> None:
    assert Block("softmax", head_dim=8, num_heads=2) == replace(PLAIN, mlp_hidden=0)
    assert Block(num_heads=2, kv_heads=0) == Block(num_heads=2) != Block(num_heads=3)
    for copied in (copy.deepcopy(PLAIN), pickle.loads(pickle.dumps(PLAIN))):
        assert copied == PLAIN and hash(copied) == hash(PLAIN)
    with pytest.raises(SpaceError, match=r"no mixer has a number 'num_headz'.*'num_heads'"):
        small(Block(num_headz=2))
    with pytest.raises(TypeError):
        Block("softmax", 2)


def test_activation_bits_need_integer_weights() -> None:
    assert Policy(weight_bits=32, act_bits=8) == Policy()
    assert Policy(weight_bits=8, act_bits=8).act_bits == 8


def test_token_reduction_without_dropped_tokens_is_dropped() -> None:
    assert small(PLAIN, token_reduction="random") == small(PLAIN)
    dropping = replace(PLAIN, token_keep=0.5)
    assert small(dropping, token_reduction="random") != small(dropping)


def test_compression_needs_a_policy_for_each_block() -> None:
    candidate = Candidate.uncompressed(small(PLAIN, PLAIN))
    short = replace(candidate.compression, stages=(StagePolicy((Policy(),), (Policy(),)),))
    with pytest.raises(SpaceError, match="one mixer policy a block"):
        Candidate(candidate.architecture, short)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"patch_size": 4',
            '"patchsize": 4',
            r"architecture: unknown name 'patchsize'.*patch_size",
        ),
        ('"patch_size": 4', '"patch_size": "4"', r"architecture.patch_size: need a whole number"),
        ('"avg"', '"avgg"', r"global_pool: no such value 'avgg'. Did you mean 'avg'"),
        ('"width": 24, ', "", r"architecture\.stages\S+0\S*: 'width' must be given"),
        ('"grouped"', '"groupd"', r"blocks\S+1\S*mixer: no such value 'groupd'.*'grouped'"),
        ('{"stages": [{"mlp"', '"stages": [{"mlp"', r"not JSON"),
        ('"weight_bits": 8', '"weight_bits": 9', r"weight_bits: no such value 9"),
        ('[{"weight_bits": 8, "act_bits": 8}, {}]', "[{}]", r"one mlp policy a block"),
        ('{"stages": [{"mlp"', '{"stages": [{}, {"mlp"', r"need 1 stages, got 2"),
        ('"compression"', '"version": 99, "compression"', r"version must be 1, got 99"),
        ('"stages": [{"width"', '"stages": 3, "x": [{"width"', r"need a list with at least one"),
    ],
)
def test_bad_json_is_refused(old: str, new: str, message: str) -> None:
    assert old in GOLDEN
    with pytest.raises(SpaceError, match=message) as caught:
        Candidate.from_json(GOLDEN.replace(old, new))
    assert "\n" not in str(caught.value)


def test_unknown_mixer_in_code() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown mixer 'softmx'. Did you mean 'softmax'"):
        small(replace(PLAIN, mixer="softmx"))


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(SpaceError, match="candidate: not JSON: "):
        Candidate.from_json("[" * 100_000)
