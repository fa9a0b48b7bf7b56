"""Branches beside a start: plain candidates and those in branches begin as the start."""

import pytest
import torch

from vitpareto.search.library.parts import Library
from vitpareto.search.library.repair import assemble
from vitpareto.search.library.start import Start
from vitpareto.spaces import Architecture, Block, Candidate, Stage

from ..compress.helpers import images, random_network

BLOCKS = (
    Block("mbconv", mlp_hidden=32, kernel_size=5),
    Block("fused_mbconv", mlp_hidden=32, kernel_size=3),
)


def small(reparam: bool, *blocks: Block) -> Architecture:
    return Architecture(
        (Stage(16, blocks), Stage(16, blocks)),
        **{"input_size": 16, "patch_size": 2, "num_classes": 5, "in_chans": 1, "stem": "conv"},
        **{"norm": "batch", "global_pool": "avg", "pos_embed": "none", "reparam": reparam},
    )


@torch.no_grad()
@pytest.mark.parametrize("reparam", [False, True])
def test_candidates_of_either_kind_are_the_start(reparam: bool) -> None:
    network = random_network(small(reparam, *BLOCKS))
    library = Library(Start.of(network, images(network.architecture, 8)))
    x = images(network.architecture, 4, seed=1)
    expected = network(x)
    for other in (False, True):
        assembled = assemble(library, Candidate.uncompressed(small(other, *BLOCKS)))
        assert assembled.architecture.reparam == other
        error = (assembled(x) - expected).abs().max()
        assert error < 1e-5 * expected.abs().max()
