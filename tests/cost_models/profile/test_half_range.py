"""What leaves float16 is named: a large weight, activations that it makes, and small weights."""

import numpy as np
import pytest
import torch

from vitpareto.cost_models.graphs.modules import randomize
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.profile.half_range import HIGHEST, HalfRange, half_ranges
from vitpareto.search.cli.profile_text import half_lines
from vitpareto.spaces import Architecture, Block, Candidate, Stage
from vitpareto.spaces.networks import Network

pytestmark = pytest.mark.onnx
BLOCKS = (Block(num_heads=2, head_dim=8, mlp_hidden=32),) * 2
TINY = Architecture((Stage(16, BLOCKS),), 16, 1, 10, patch_size=4, global_pool="avg")
MLP = "stages.0.blocks.1.mlp"


def found(change: dict[str, float], scale: float = 1.0) -> list[HalfRange]:
    """Ranges of a network in which some parameters have another first value."""
    network = Network(TINY).eval()
    randomize(network)
    with torch.no_grad():
        for name, value in change.items():
            network.get_parameter(name).view(-1)[0] = value
        network.get_parameter(f"{MLP}.fc2.weight").mul_(scale)
    images = np.random.default_rng(0).standard_normal((4, 1, 16, 16)).astype(np.float32)
    graph = to_onnx(network, (2, 1, 16, 16))
    return half_ranges(graph, Candidate.uncompressed(TINY), np.split(images, 2))


def test_a_usual_network_stays_in_it() -> None:
    ranges = found({})
    assert not any(r.overflows for r in ranges) and len(ranges) > 40
    assert all(r.lost == 0 for r in ranges if r.is_weight)
    assert any("nothing overflows; the largest is" in line for line in half_lines(ranges))


def test_what_overflows_is_named() -> None:
    """A shift of 60,000 fits, and becomes too large where it is added to and scaled."""
    (weight,) = [r for r in found({f"{MLP}.fc1.bias": 1e5}) if r.is_weight and r.overflows]
    assert weight.name == f"{MLP}.fc1.bias" and weight.highest == 1e5
    ranges = found({f"{MLP}.fc1.bias": 6e4}, scale=10.0)
    assert all(r.highest <= HIGHEST for r in ranges if r.is_weight)
    first = next(r for r in ranges if r.overflows)
    assert (first.sub_block, first.is_weight) == (MLP, False)
    assert any(line.startswith(f"  OVERFLOW  {MLP}  ") for line in half_lines(ranges))


def test_what_becomes_zero_is_counted() -> None:
    ranges = {r.name: r for r in found({}, scale=1e-9) if r.is_weight}
    assert ranges[f"{MLP}.fc2.weight"].lost > 0.9
    assert ranges[f"{MLP}.fc1.weight"].lost == 0
