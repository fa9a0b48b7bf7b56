"""A small space and a device of this machine, and few rounds."""

from collections.abc import Iterator

import pytest

from vitpareto.cost_models import Device
from vitpareto.spaces import SearchSpace

from ...shared import few_rounds

TINY = """
name: tiny
in_chans: 1
num_classes: 4
input_size: 16
patch_size: [4, 8]
global_pool: avg
stages:
  - depth: [1, 2]
    width: [16, 32]
    head_dim: 8
    num_heads: 2
    weight_bits: [32, 8]
    act_bits: 8
    mlp_ratio: [1.0, 2.0]
"""


@pytest.fixture
def brief() -> Iterator[None]:
    with few_rounds():
        yield


@pytest.fixture(scope="module")
def tiny() -> SearchSpace:
    return SearchSpace.from_text(TINY)


@pytest.fixture(scope="module")
def device() -> Device:
    names = ("float", "dynamic8", "static8")
    return Device("here", "onnxruntime", "CPUExecutionProvider", 1, names)
