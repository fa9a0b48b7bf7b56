"""A small network trained on real digits, and a cost model of this machine, made once."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from vitpareto.cost_models import CostModel, Device, calibrate
from vitpareto.search.config import DataConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.loading import load_data
from vitpareto.search.delivery import verify
from vitpareto.search.delivery.deliver import deliver
from vitpareto.search.delivery.terms import Terms
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.predicted_costs import CostPredictor
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.forward import predict
from vitpareto.spaces import Candidate, Policy, SearchSpace
from vitpareto.spaces.networks import Network

from ..shared import everywhere, made_once

torch.set_num_threads(1)

SPACE = """
name: deliver
in_chans: 1
num_classes: 10
input_size: 16
patch_size: 4
global_pool: avg
act: gelu
stages:
  - depth: [1, 2]
    width: 32
    head_dim: 8
    num_heads: 4
    mlp_ratio: [1.0, 2.0]
    weight_bits: [32, 8]
    act_bits: [8, 32]
"""


def as_it_is(candidate: Candidate, network: Network) -> Network:
    """No training after a step back."""
    return network


class Made(NamedTuple):
    """A trained network, and what is needed to deliver it."""

    candidate: Candidate
    network: Network
    data: Data
    device: Device
    model: CostModel

    def evaluation(self, candidate: Candidate) -> Evaluation:
        """As if the search had found the candidate as good as the float network."""
        split = self.data.split("search")
        found = accuracy(predict(self.candidate, self.network, split), split.labels)
        return Evaluation(candidate, "complete", found | CostPredictor(self.model)(candidate))

    def terms(self, *objectives: Objective) -> Terms:
        costs, seeds = CostPredictor(self.model), {"search.seed": 0}
        return Terms(self.data, self.device, costs, objectives, 64, seeds, as_it_is)

    def deliver(self, pareto: Path, candidate: Candidate, *objectives: Objective) -> Path:
        evaluation = self.evaluation(candidate)
        return deliver(pareto, evaluation, self.network, self.terms(*objectives))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    space = SearchSpace.from_text(SPACE)
    candidate = Candidate.uncompressed(space.largest().architecture)
    data = load_data(DataConfig(), 16)
    device = replace(
        Device.load("cpu-1t"), recipes=("float", "dynamic8", "stored8", "dynamic4", "stored4")
    )

    def make(folder: Path) -> None:
        save_file(trained(candidate, data).state_dict(), folder / "weights.safetensors")
        calibrate(device, space, 4.0, 0, out=folder / "cost_model.json")

    folder = made_once(tmp_path_factory, "made", make)
    network = Network(candidate.architecture).eval()
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return Made(candidate, network, data, device, CostModel.load(folder / "cost_model.json"))


@pytest.fixture(scope="session")
def verified(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two verified models, in float32 and in 8 bits; copy it to change it."""

    def make(folder: Path) -> None:
        (folder / "config.yaml").write_text("")
        for policy in (Policy(), Policy(8, 8)):
            made.deliver(folder / "pareto", everywhere(made.candidate, policy))
        with RunFolder(folder) as run:
            verify.verify_new(run, made.device, made.data)

    return made_once(tmp_path_factory, "verified", make)


def copy_of_int8(verified: Path, made: Made, to: Path) -> Path:
    """A copy of that run folder with the model of 8 bits alone."""
    shutil.copytree(verified, to)
    shutil.rmtree(to / "pareto" / made.candidate.key)
    return to


def trained(candidate: Candidate, data: Data, lr: float = 4e-3) -> Network:
    """Knows nearly all digits; deep networks need a smaller learning rate."""
    train = data.split("train")
    torch.manual_seed(0)
    network = Network(candidate.architecture).train()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    for step in range(250):
        picked = torch.randint(len(train), (64,))
        loss = F.cross_entropy(network(train.images[picked]), train.labels[picked])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / 250)
        optimizer.step()
    return network
