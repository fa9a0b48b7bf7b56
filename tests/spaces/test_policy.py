"""Policies: one object for equal values, any transform's field as an attribute."""

import copy
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from vitpareto.spaces import Policy
from vitpareto.spaces.errors import UnknownNameError


def test_equal_policies_are_one() -> None:
    policy = Policy(8, 8, rank_ratio=0.5, sparsity=0.0)
    assert policy is Policy(8, 8, (("rank_ratio", 0.5),)) is replace(Policy(8, 8), rank_ratio=0.5)
    assert pickle.loads(pickle.dumps(policy)) is copy.deepcopy(policy) is policy
    assert len({policy, Policy(8, 8), Policy(8, 8, sparsity=0.5), Policy(8, 8, n_m="2:4")}) == 4
    assert replace(policy, rank_ratio=1.0) is Policy(8, 8)
    assert repr(policy) == "Policy(8, 8, rank_ratio=0.5)" and eval(repr(policy)) is policy


def test_integer_activations_need_integer_weights() -> None:
    assert Policy(32, 8) is Policy() and Policy(16, 8) is Policy(16)


def test_fields() -> None:
    policy = Policy(4, sparsity=0.5, prune_ratio=0.25)
    assert (policy.sparsity, policy.rank_ratio, policy.n_m) == (0.5, 1.0, "")
    assert policy.changes() == {"weight_bits": 4, "prune_ratio": 0.25, "sparsity": 0.5}
    assert policy.only(lambda t: t.on != "numbers") is Policy(4, sparsity=0.5)
    with pytest.raises(AttributeError, match="no attribute 'sparsty'"):
        _ = policy.sparsty
    with pytest.raises(UnknownNameError, match=r"'sparsty'.*'sparsity'"):
        Policy(sparsty=0.5)
    with pytest.raises(FrozenInstanceError):
        policy.weight_bits = 8  # type: ignore[misc]


def test_importing_loads_no_transform() -> None:
    """A plugin's own module imports ours: it is asked for only when a field is."""
    program = (
        "import sys, vitpareto.spaces; "
        "assert not any('spaces.transforms.sparsity' in name for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
