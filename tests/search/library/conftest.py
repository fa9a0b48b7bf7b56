"""A small network trained on real digits, and the library of it, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from vitpareto.search.config import DataConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.loading import load_data
from vitpareto.search.executors import LocalExecutor, ProcessExecutor
from vitpareto.search.library.making import make_library
from vitpareto.search.library.parts import Library
from vitpareto.search.library.start import Start
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.networks import Network

torch.set_num_threads(1)

SPACE = """
name: cut
in_chans: 1
num_classes: 10
input_size: 16
patch_size: [4, 8]
pos_embed: learned
global_pool: token
norm: layer
stages:
  - depth: [1, 2, 3]
    width: 32
    head_dim: 8
    kv_heads: 1
    token_keep: [1.0, 0.7]
    token_keep_at: "0"
    weight_bits: [32, 8, 4]
    act_bits: 8
    blocks:
      mixer: [softmax, linear, grouped]
      num_heads: [2, 4]
      mlp_ratio: [1.0, 2.0]
"""


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.from_text(SPACE)


@pytest.fixture(scope="session")
def data() -> Data:
    return load_data(DataConfig(), 16)


@pytest.fixture(scope="session")
def network(space: SearchSpace, data: Data) -> Network:
    """The largest network of the space after some training."""
    train = data.split("train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(space.largest().architecture).train()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.normal_(
                    std=parameter.shape[1] ** -0.5, generator=torch.Generator().manual_seed(0)
                )
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(120):
        picked = torch.randint(len(train), (64,), generator=generator)
        loss = F.cross_entropy(network(train.images[picked]), train.labels[picked])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 120)
        optimizer.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def start(network: Network, data: Data) -> Start:
    return Start.of(network, data.split("train").images[:96])


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[ProcessExecutor]:
    """Another process, which takes seconds to start."""
    with ProcessExecutor(1, 1) as executor:
        yield executor


@pytest.fixture(scope="session")
def library(start: Start, space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Library:
    path = Path(tmp_path_factory.mktemp("library")) / "library.safetensors"
    return make_library(start, space, LocalExecutor(), path, steps=10)
