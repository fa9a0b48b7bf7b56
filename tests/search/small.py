"""A space and lessons so small that a training takes a second."""

import pytest
import torch

from vitpareto.search.config import DataConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.loading import load_data
from vitpareto.search.training.teacher import Lessons
from vitpareto.spaces import SearchSpace

TEXT = """
in_chans: 1
num_classes: 10
input_size: 16
patch_size: [4, 8]
pos_embed: learned
global_pool: avg
norm: [layer, rms]
layer_scale: true
stages:
  - depth: {low: 1, high: 2}
    width: [16, 32]
    head_dim: 8
    window_size: 2
    weight_bits: [32, 8]
    act_bits: 8
    blocks:
      mixer: [softmax, linear]
      num_heads: [1, 2]
      mlp_ratio: [1.0, 2.0]
"""


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.from_text(TEXT)


@pytest.fixture(scope="session")
def data() -> Data:
    return load_data(DataConfig(), 16)


@pytest.fixture(scope="session")
def lessons(data: Data) -> Lessons:
    """A teacher that knows every label and is a little unsure."""
    sure = torch.nn.functional.one_hot(data.train_labels, 10) * 6.0
    noise = torch.randn(2, *sure.shape, generator=torch.Generator().manual_seed(0))
    return Lessons.of(data, sure + noise)
