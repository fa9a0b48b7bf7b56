"""What is trained in branches is folded exactly, and costs what the plain network costs."""

import pytest
import torch

from vitpareto.cost_models import workload
from vitpareto.cost_models.graphs.folding import folded
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.units.unit import unit_of
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.branches import branches_of

from ...spaces.branched import in_branches, plain
from ...spaces.helpers import difference, images, randomized


@torch.no_grad()
def test_folding_is_exact() -> None:
    """In double precision, for random candidates; and nothing of the branches is left."""
    for candidate in in_branches(12):
        network = randomized(candidate.architecture).double()
        x, made = images(candidate).double(), folded(network)
        expected = network(x)
        assert difference(made(x), expected) < 1e-5 * float(expected.abs().max())
        assert branches_of(network) and not branches_of(made)
        like = folded(Network(plain(candidate).architecture)).state_dict()
        shapes = {name: value.shape for name, value in made.state_dict().items()}
        assert {name: value.shape for name, value in like.items()}.items() <= shapes.items()
        assert all(name.endswith(".bias") for name in shapes.keys() - like.keys())


def test_it_costs_what_the_plain_network_costs() -> None:
    for candidate in in_branches(20):
        own, other = workload(candidate), workload(plain(candidate))
        assert own == other
        keys = [[unit_of(b, "float").key for b in w.sub_blocks] for w in (own, other)]
        assert keys[0] == keys[1] and "reparam" not in "".join(keys[0])


@pytest.mark.onnx
def test_graphs_are_alike() -> None:
    """The same nodes with weights of the same shapes."""
    for candidate in in_branches(3):
        a = candidate.architecture
        shape = 1, a.in_chans, a.input_size, a.input_size
        pair = candidate, plain(candidate)
        made = [to_onnx(folded(randomized(c.architecture)), shape) for c in pair]
        nodes = [[(n.op_type, len(n.input)) for n in model.graph.node] for model in made]
        weights = [sorted(tuple(t.dims) for t in model.graph.initializer) for model in made]
        assert nodes[0] == nodes[1] and weights[0] == weights[1]
