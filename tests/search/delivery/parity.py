"""Compressed candidates of the digits space: what the search saw, and what their artifacts do."""

import random
from typing import NamedTuple

import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.search.config import DataConfig, SupernetConfig
from vitpareto.search.data.dataset import resized
from vitpareto.search.data.loading import load_data
from vitpareto.search.delivery.decompression import policies, with_policy
from vitpareto.search.delivery.export import build_for
from vitpareto.search.delivery.formats import format_of
from vitpareto.search.scoring.inherited import Evaluator, batch_statistics
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.supernet import train_supernet
from vitpareto.search.training.teacher import Lessons
from vitpareto.spaces import Candidate, Policy, SearchSpace

RECIPES = (
    ("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4"),
    ("float", "fp16", "static8", "stored8", "static4", "stored4"),
)


class Pair(NamedTuple):
    """A candidate before fine-tuning.

    Attributes:
        key: of the candidate.
        exact: whether its kernels compute in float32.
        seen: accuracy on the search split by inherited weights, in torch.
        found: accuracy on the same images of its artifact in ONNX Runtime.
        distance: largest difference of its logits from torch's, relative to those above 1.
        agreement: share of images on which it says what torch says.
    """

    key: str
    exact: bool
    seen: float
    found: float
    distance: float
    agreement: float

    def __str__(self) -> str:
        kernels = "float32" if self.exact else "integers"
        return (
            f"{self.key}  {kernels:8}  {self.seen:7.2%}  {self.found:8.2%}  {self.agreement:9.2%}"
            f"  {self.distance:9.1e}"
        )


EPOCHS = 14
HEADER = "candidate         kernels    search  artifact  agreement  logits apart"


def compressed(space: SearchSpace, count: int) -> list[Candidate]:
    """Candidates in which something is rounded or left out: every other one as the space does it,
    the others in all ways, a different one for each sub-block.
    """
    rng = random.Random(0)
    found = [c for c in space.sample(3 * count, seed=11) if set(policies(c).values()) != {Policy()}]
    for index in range(0, count, 2):
        acts = (32,) if index % 4 else (8, 32)
        for place in policies(found[index]):
            policy = Policy(
                *(rng.choice((32, 8, 6, 4)), rng.choice(acts)),
                rank_ratio=rng.choice((1.0, 1.0, 0.6)),
                sparsity=rng.choice((0.0, 0.0, 0.3)),
            )
            found[index] = with_policy(found[index], place, policy)
    return found[:count]


def pairs(count: int) -> list[Pair]:
    """Train a supernet on digits for a little, then score and export candidates."""
    space, device = SearchSpace.from_yaml("digits"), Device.load("cpu-1t")
    data = load_data(DataConfig(), space.largest().architecture.input_size)
    train, search = data.split("train"), data.split("search")
    labels = torch.nn.functional.one_hot(data.train_labels, 10).float() * 10
    lessons = Lessons.of(data, labels[None])
    supernet = train_supernet(space, lessons, SupernetConfig(epochs=EPOCHS, lr=2e-3), 0)
    found: list[Pair] = []
    for index, candidate in enumerate(compressed(space, count)):
        recipes = RECIPES[index % 3 // 2]
        evaluator = Evaluator(supernet, search, train, recipes)
        size = candidate.architecture.input_size
        network = supernet.extract(candidate)
        state = network.state_dict()
        state |= batch_statistics(network, state, candidate, resized(train.images[:512], size))
        network.load_state_dict(state)
        build = build_for(device, candidate, network.eval(), recipes, data, 64)
        compiled = open_runtime(device).compile(format_of(device).encode(build, device, None))
        inputs = resized(search.images, size).numpy()
        logits = torch.cat([torch.from_numpy(compiled.run(x[None])) for x in inputs])
        expected = build.logits(search)
        found.append(
            Pair(
                candidate.key,
                build.exact,
                evaluator(candidate)["accuracy"],
                accuracy(logits, search.labels)["accuracy"],
                ((logits - expected).abs().max() / max(1, expected.abs().max())).item(),
                (logits.argmax(1) == expected.argmax(1)).double().mean().item(),
            )
        )
    return found
