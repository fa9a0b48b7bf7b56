"""A start that learns to see in other patch sizes."""

from pathlib import Path

import pytest
import torch

from vitpareto.cost_models import workload
from vitpareto.search.config import AdaptConfig, StartConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.start.adapt import Adaptation
from vitpareto.search.start.fitted import fit, open_start
from vitpareto.search.start.patches import Patches, patch_sizes
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.checkpoint import Checkpoint
from vitpareto.search.training.forward import predict
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.convert import from_model
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.refit import resized_network

from ..own_vit import SPACE, Own

IMAGES = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_sizes_are_those_of_the_space(space: SearchSpace) -> None:
    assert patch_sizes(space) == [4, 8]
    assert patch_sizes(SearchSpace.from_text(SPACE)) == []


def test_other_patches_are_seen_as_candidates_see_them(own: Own) -> None:
    network = from_model(own.model)
    patches = Patches(network, [2, 4, 8])
    for step, size in enumerate([2, 8, 2]):
        found = patches.logits(IMAGES, step)
        for logits, side in zip(found, (4, size), strict=True):
            wanted = resized_network(network, 16, side)(IMAGES)
            assert torch.allclose(logits, wanted, atol=1e-5)


def test_gradients_go_through_other_patches(own: Own) -> None:
    network = from_model(own.model).requires_grad_(True)
    logits = Patches(network, [8]).logits(IMAGES, 0)[1]
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_work_counts_both_looks(own: Own) -> None:
    network = from_model(own.model)
    own_macs, other = (
        workload(Candidate.uncompressed(n.architecture)).macs
        for n in (network, resized_network(network, 16, 8))
    )
    assert Patches(network, [4, 8]).work == pytest.approx(1 + other / own_macs)
    assert Patches(network, [4]).work == 1


def test_a_mixer_bound_to_its_tokens_has_no_other_patches() -> None:
    text = SPACE.replace("mlp_ratio", "mixer: token_mlp\n      mlp_ratio")
    text = text.replace("in_chans: 1", "in_chans: 1\nglobal_pool: avg")
    text = text.replace("    head_dim: 8\n    num_heads: [2, 4]\n", "")
    network = Network(SearchSpace.from_text(text).largest().architecture)
    assert len(Patches(network, [4, 8]).logits(IMAGES, 0)) == 1


def test_an_adapted_start_keeps_what_it_knows_through_other_patches(
    own: Own, data: Data, tmp_path: Path
) -> None:
    config = StartConfig(model=own.name, adapt=AdaptConfig(epochs=4, lr=1e-3, probe_epochs=5))
    space = SearchSpace.from_text(SPACE)
    split, found = data.split("validation"), dict[str, list[float]]()
    for name, sizes in {"one": [], "both": [4, 8]}.items():
        network, knows = fit(open_start(config), config, space, data)
        train = Adaptation(data, config.adapt, 0, patch_sizes=sizes)
        train(network, Checkpoint(tmp_path / name), knows)
        found[name] = []
        for side in (4, 8):
            seen = resized_network(network, 16, side)
            answers = predict(Candidate.uncompressed(seen.architecture), seen, split)
            found[name].append(accuracy(answers, split.labels)["accuracy"])
    (own_alone, other_alone), (own_both, other_both) = found["one"], found["both"]
    assert own_both > own_alone - 0.06
    assert other_both > other_alone + 0.2, found
