"""A small network trained on real digits, made once."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vitpareto.search.config import DataConfig
from vitpareto.search.data.loading import load_data
from vitpareto.spaces.networks import Network

from .helpers import architecture, random_network

torch.set_num_threads(1)


class Trained(NamedTuple):
    """A network in evaluation mode, and images."""

    network: Network
    train: Tensor
    train_labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor

    def accuracy(self, network: torch.nn.Module) -> float:
        with torch.inference_mode():
            return (network(self.held_out).argmax(1) == self.held_out_labels).float().mean().item()

    def loss(self, network: torch.nn.Module, start: int = 0, n: int = 64) -> Tensor:
        part = slice(start, start + n)
        return F.cross_entropy(network(self.train[part]), self.train_labels[part])


@pytest.fixture(scope="session")
def trained() -> Trained:
    data = load_data(DataConfig(), 16)
    train, held_out = data.split("train"), data.split("validation")
    network = random_network(architecture()).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    generator = torch.Generator().manual_seed(0)
    for step in range(200):
        picked = torch.randint(len(train), (64,), generator=generator)
        loss = F.cross_entropy(network(train.images[picked]), train.labels[picked])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 200)
        optimizer.step()
    return Trained(network.eval(), train.images, train.labels, held_out.images, held_out.labels)
