import copy

import pytest
import torch
from torch import Tensor

from vitpareto.search.compress import deliverable
from vitpareto.search.compress.tensor import cp, decompose, qkv_tensor, tucker, with_qkv
from vitpareto.spaces import Block, Candidate, Policy
from vitpareto.spaces.compression import Compression, StagePolicy
from vitpareto.spaces.mixers import MIXERS, attribute_of, canonical, find
from vitpareto.spaces.transforms import policy_transforms

from .conftest import Trained
from .helpers import architecture, images, largest, random_network, relative

pytest.importorskip("tensorly")
PREFIX = "stages.0.blocks.0.attn"
RANKS = [2, 4, 8, 16, 24]


def tensor(seed: int = 0) -> Tensor:
    """A smooth tensor (12, 8, 32) with some noise, as weights are: neither random nor low rank."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(n, 12, generator=generator) for n in (12, 8, 32)]
    clean = torch.einsum("hr,dr,cr,r->hdc", *parts, torch.logspace(0, -1, 12))
    return clean + 0.1 * torch.randn(clean.shape, generator=generator)


def test_tucker_error_falls_with_rank_to_nothing() -> None:
    given = tensor()
    errors = [relative(tucker(given, (r, r, r)).tensor(), given) for r in RANKS]
    assert errors == sorted(errors, reverse=True)
    assert relative(tucker(given, given.shape).tensor(), given) < 1e-5


def test_cp_error_falls_with_rank() -> None:
    given = tensor()
    errors = [relative(cp(given, r).tensor(), given) for r in RANKS]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1


def test_parameters_are_counted() -> None:
    given = tensor()
    assert cp(given, 4).params == 4 * (12 + 8 + 32)
    assert tucker(given, (3, 4, 5)).params == 12 * 3 + 8 * 4 + 32 * 5 + 3 * 4 * 5


@pytest.mark.parametrize(
    "block",
    [
        Block(num_heads=4, head_dim=8, mlp_hidden=64),
        Block("grouped", num_heads=4, head_dim=8, kv_heads=2, mlp_hidden=64),
        Block("window", num_heads=4, head_dim=8, window_size=2, mlp_hidden=64),
    ],
    ids=lambda b: b.mixer,
)
@pytest.mark.parametrize("kind", ["tucker", "cp"])
def test_dense_and_thin_layers_agree(block: Block, kind: str) -> None:
    network, x = random_network(architecture(block)), images(architecture(block))
    state = network.state_dict()
    given = qkv_tensor(state, PREFIX, 8)
    assert with_qkv(state, PREFIX, given).keys() == state.keys()
    assert all(with_qkv(state, PREFIX, given)[name].equal(state[name]) for name in state)
    factors = tucker(given, (6, 6, 16)) if kind == "tucker" else cp(given, 24)
    thin = copy.deepcopy(network)
    decompose(thin.get_submodule(PREFIX), factors)  # type: ignore[arg-type]
    with torch.no_grad():
        exact = network(x)
        network.load_state_dict(with_qkv(state, PREFIX, factors.tensor()))
        assert largest(thin(x), network(x)) < 1e-4
        assert relative(network(x), exact) > 1e-3
    found = sum(p.numel() for p in thin.parameters()) - sum(p.numel() for p in network.parameters())
    assert found == factors.params - given.numel()


@pytest.mark.parametrize("kind", ["tucker", "cp"])
def test_training_recovers_what_was_lost(trained: Trained, kind: str) -> None:
    thin = copy.deepcopy(trained.network)
    for i in range(2):
        prefix = f"stages.0.blocks.{i}.attn"
        given = qkv_tensor(thin.state_dict(), prefix, 8)
        factors = tucker(given, (3, 3, 6)) if kind == "tucker" else cp(given, 3)
        decompose(thin.get_submodule(prefix), factors)  # type: ignore[arg-type]
    before = trained.accuracy(thin)
    optimizer = torch.optim.AdamW(thin.parameters(), lr=1e-3)
    for step in range(60):
        loss = trained.loss(thin.train(), 64 * (step % 10))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    exact = trained.accuracy(trained.network)
    after = trained.accuracy(thin.eval())
    assert before < exact - 0.05
    assert after > before + 0.5 * (exact - before)


NUMBERS = {
    **{"num_heads": 4, "head_dim": 8, "value_dim": 12, "kv_heads": 2, "kv_pool": 2, "band": 3},
    **{"window_size": 2, "kernel_size": 3, "halo": 1, "focal_levels": 2, "global_tokens": 3},
    **{"kv_tokens": 5, "num_features": 12, "unfold_size": 2, "attn_stride": 1},
}
WITH_HEADS = [mixer for mixer in MIXERS if "num_heads" in find(mixer).fields]


@pytest.mark.parametrize("mixer", WITH_HEADS)
@pytest.mark.parametrize("field", ["tucker_ratio", "cp_ratio"])
def test_queries_keys_and_values_of_every_mixer_that_has_them(mixer: str, field: str) -> None:
    a = architecture(canonical(Block(mixer, mlp_hidden=64, **NUMBERS)))
    network = random_network(a)
    path = f"stages.0.blocks.0.{attribute_of(mixer)}"
    layers = {f"{path}.{name}.weight" for name in "qkv"}
    if not policy_transforms()[field].applies("mixer", find(mixer)):
        assert not layers <= network.state_dict().keys()
        return
    chosen = StagePolicy((Policy(**{field: 0.4}),), (Policy(),))
    delivered = deliverable(network, Candidate(a, Compression((chosen,)))).state_dict()
    plain = deliverable(network, Candidate.uncompressed(a)).state_dict()
    assert {name for name in plain if not delivered[name].equal(plain[name])} == layers
