import copy
from itertools import pairwise

import onnx
import pytest
import torch

from vitpareto.cost_models.graphs.quantize import apply_recipes
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.search.compress import candidate_at, deliverable, run
from vitpareto.search.compress.network import compressible
from vitpareto.search.compress.schedule import policy_at
from vitpareto.search.compress.sparsity import (
    follows_n_m,
    mask,
    mask_n_m,
    sparsify,
    sparsify_blocks,
)
from vitpareto.spaces import Policy
from vitpareto.spaces.transforms.sparsity import kept_in_blocks, kept_of

from .conftest import Trained
from .helpers import candidate

WEIGHT = torch.randn(16, 40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_the_smallest_weights_of_every_channel_go(share: float) -> None:
    kept = mask(WEIGHT, share)
    assert kept.sum(1).eq(round(40 * (1 - share))).all()
    for row, stays in zip(WEIGHT.abs(), kept, strict=True):
        assert not (~stays).any() or row[stays].min() >= row[~stays].max()
    scale = torch.rand(16, 1) + 0.1
    assert mask(WEIGHT * scale, share).equal(kept), "folding a scale later changes no mask"
    assert mask(WEIGHT.view(16, 10, 2, 2), share).view(16, 40).equal(kept)


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9, 0.99])
def test_as_many_stay_as_are_counted_and_no_channel_goes_whole(share: float) -> None:
    for inputs in range(1, 100):
        weight = torch.rand(3, inputs) + 0.1
        anywhere, in_blocks = (made(weight, share) != 0 for made in (sparsify, sparsify_blocks))
        assert anywhere.sum(1).eq(kept_of(inputs, share)).all() and anywhere.any(1).all()
        assert in_blocks.sum(1).eq(kept_in_blocks(inputs, share)).all() and in_blocks.any(1).all()


def test_importance_replaces_magnitude() -> None:
    importance = torch.arange(40.0).expand(16, 40)
    assert mask(WEIGHT, 0.5, importance)[:, 20:].all()
    assert mask_n_m(WEIGHT, 2, 4, importance).view(16, 10, 4)[..., 2:].all()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_n_m_patterns(n: int, m: int) -> None:
    kept = mask_n_m(WEIGHT, n, m)
    assert kept.view(16, -1, m).sum(2).eq(n).all()
    assert follows_n_m(WEIGHT * kept, n, m)
    assert not follows_n_m(WEIGHT, n, m)
    best = (WEIGHT * mask_n_m(WEIGHT, n, m)).norm()
    other = mask_n_m(WEIGHT, n, m, torch.rand(16, 40))
    assert best > (WEIGHT * other).norm()


def test_half_sparse_is_not_2_4() -> None:
    assert not follows_n_m(sparsify(WEIGHT, 0.5), 2, 4)


def test_inputs_beyond_the_last_group_stay() -> None:
    kept = mask_n_m(WEIGHT[:, :38], 2, 4)
    assert kept[:, 36:].all()
    assert follows_n_m(WEIGHT[:, :38] * kept, 2, 4)


def test_zeros_can_come_back_unless_the_mask_is_fixed() -> None:
    weight = WEIGHT.clone().requires_grad_()
    sparsify(weight, 0.5).sum().backward()
    assert weight.grad is not None
    assert weight.grad.eq(1).all()
    weight.grad = None
    kept = mask(weight, 0.5)
    (weight * kept).sum().backward()
    assert weight.grad.equal(kept.float())


def test_bits_go_down_and_zeros_up() -> None:
    policy = Policy(4, 8, sparsity=0.8)
    path = [policy_at(policy, step / 100) for step in range(101)]
    bits = [p.weight_bits for p in path]
    assert list(dict.fromkeys(bits)) == [32, 8, 6, 4]
    assert [p.act_bits for p in path] == [32 if b == 32 else 8 for b in bits]
    sparsity = [p.sparsity for p in path]
    assert sparsity == sorted(sparsity)
    assert sparsity[0] == 0
    assert path[-1] == policy
    growth = [b - a for a, b in pairwise(sparsity)]
    assert growth[0] > growth[40] > growth[80] > 0


LADDERS = {32: [32], 16: [16], 8: [32, 8], 5: [32, 8, 6, 5], 2: [32, 8, 6, 4, 3, 2]}


@pytest.mark.parametrize(("bits", "ladder"), LADDERS.items())
def test_ladders(bits: int, ladder: list[int]) -> None:
    found = [policy_at(Policy(bits), step / 200).weight_bits for step in range(201)]
    assert list(dict.fromkeys(found)) == ladder


def test_candidates_start_plain_and_end_as_they_are(trained: Trained) -> None:
    chosen = candidate(trained.network.architecture, Policy(4, 8, sparsity=0.5))
    assert candidate_at(chosen, 0.5, 0.5) == candidate_at(chosen, 0.0, 0.0) == chosen
    state, x = trained.network.state_dict(), trained.held_out[:4]
    with torch.no_grad():
        exact = trained.network(x)
        assert run(trained.network, state, candidate_at(chosen, 0.0, 0.5), x).equal(exact)
        assert not run(trained.network, state, chosen, x).allclose(exact, rtol=1e-2)


@pytest.mark.parametrize("scales", ["channel", "tensor", "block32", "block128"])
def test_every_step_of_bits_has_a_recipe(trained: Trained, scales: str) -> None:
    """There are kernels of blocks for 4 bits alone, and training comes from more."""
    chosen = candidate(trained.network.architecture, Policy(4, weight_scales=scales))
    seen = {candidate_at(chosen, step / 12, 0.5) for step in range(12)}
    assert len(seen) == 4  # float, 8, 6 and 4 bits
    for now in seen:
        assert compressible(trained.network, now)


@pytest.mark.onnx
def test_a_pattern_survives_folding_and_integers(trained: Trained) -> None:
    """What sparse kernels would multiply by is still 2:4 in the file."""
    network = copy.deepcopy(trained.network)
    chosen = candidate(network.architecture, Policy(8, 8))
    layers = compressible(network, chosen)
    with torch.no_grad():
        for layer in layers.values():
            layer.module.weight *= mask_n_m(layer.module.weight, 2, 4)
    graph = to_onnx(deliverable(network, chosen), (1, 1, 16, 16))
    model = apply_recipes(graph, chosen, ("float", "dynamic8"))
    stored = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer]
    weights = [w if w.ndim == 4 else w.T for w in stored if w.dtype == "int8" and w.ndim > 1]
    assert len(weights) == len(layers)
    for weight in weights:
        rows = torch.from_numpy(weight.astype("float32"))
        assert follows_n_m(rows, 2, 4) and not follows_n_m(rows, 1, 4)
