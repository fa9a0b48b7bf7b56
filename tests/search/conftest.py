from pathlib import Path

import pytest
import torch

from vitpareto.spaces import SearchSpace

TINY = """
name: tiny
in_chans: 1
num_classes: 10
input_size: 32
patch_size: 8
global_pool: avg
layer_scale: true
norm: layer
act: relu
stages:
  - depth: [1, 2]
    width: [16, 32]
    head_dim: 8
    num_heads: 2
    token_keep: [1.0, 0.5]
    token_keep_at: 0
    weight_bits: [32, 8]
    act_bits: 8
    blocks:
      mixer: [softmax, linear]
      mlp_ratio: [1.0, 2.0]
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.from_text(TINY)


@pytest.fixture(scope="session")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spaces") / "tiny.yaml"
    path.write_text(TINY)
    return path
