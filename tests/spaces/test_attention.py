"""Attention to all tokens against formulas or modules written independently."""

import pytest
import torch
from timm.models.efficientvit_mit import LiteMLA
from timm.models.efficientvit_msra import CascadedGroupAttention
from torch import Tensor, nn
from torch.nn import functional as F

from vitpareto.spaces import Block
from vitpareto.spaces.mixers import MIXERS, find
from vitpareto.spaces.networks.attention import Attention
from vitpareto.spaces.networks.banded import BandedAttention
from vitpareto.spaces.networks.cascaded import CascadedAttention
from vitpareto.spaces.networks.linear import LinearAttention
from vitpareto.spaces.networks.linformer import Linformer
from vitpareto.spaces.networks.multiscale_linear import MultiscaleLinearAttention
from vitpareto.spaces.networks.performer import Performer, orthogonal
from vitpareto.spaces.networks.pooled import PooledAttention
from vitpareto.spaces.networks.talking_heads import doubled

from .formulas import attention_by_torch, make, tokens
from .helpers import difference, place, randomized, small

HEADS = {"num_heads": 4, "head_dim": 6}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("kv_heads", [0, 1, 2, 4])
@pytest.mark.parametrize("prefix", [0, 2])
def test_grouped_attention(kv_heads: int, prefix: int) -> None:
    at = place(prefix, mixer="grouped", **HEADS, kv_heads=kv_heads)
    module, x = make(Attention, at), tokens(at)
    expected = attention_by_torch(module, x, x, enable_gqa=True)
    assert difference(module(x), expected) < 1e-5


def test_as_many_groups_as_heads_is_plain_attention() -> None:
    grouped = Block("grouped", num_heads=3, head_dim=8, kv_heads=3, mlp_hidden=48)
    plain = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=48)
    x = torch.randn(2, 3, 32, 32)
    assert difference(randomized(small(grouped))(x), randomized(small(plain))(x)) == 0


@pytest.mark.parametrize("grid", [(1, 1), (2, 5), (4, 3)])
def test_grids_are_doubled_bilinearly(grid: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *grid)
    assert difference(doubled(x, grid), F.interpolate(x, scale_factor=2, mode="bilinear")) < 1e-6


@pytest.mark.parametrize(("grid", "pool"), [(6, 2), (7, 2), (7, 3), (6, 6)])
@pytest.mark.parametrize("prefix", [0, 1])
def test_pooled_attention(grid: int, pool: int, prefix: int) -> None:
    at = place(prefix, grid, mixer="pooled", kv_pool=pool)
    module, x = make(PooledAttention, at), tokens(at)
    square = x[:, prefix:].unflatten(1, at.grid)
    means = [
        square[:, i : i + pool, j : j + pool].mean((1, 2))
        for i in range(0, grid, pool)
        for j in range(0, grid, pool)
    ]
    source = torch.cat([x[:, :prefix], torch.stack(means, 1)], 1)
    assert difference(module(x), attention_by_torch(module, x, source)) < 1e-5
    assert MIXERS["pooled"].ops(at)[0].writes == source.shape[1] * at.width


def test_pool_of_one_is_plain_attention() -> None:
    at = place(1, mixer="pooled", kv_pool=1)
    x = tokens(at)
    assert difference(make(PooledAttention, at)(x), make(Attention, at)(x)) == 0


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("kernel", [3, 5])
def test_linear_attention_against_the_quadratic_formula(prefix: int, kernel: int) -> None:
    at = place(prefix, mixer="linear", kernel_size=kernel)
    module, x = make(LinearAttention, at), tokens(at)
    q, k, v = module.q(x), module.k(x), module.v(x)
    mixed = torch.zeros_like(v)
    for head in range(3):
        part = slice(8 * head, 8 * head + 8)
        weights = q[..., part].relu() @ k[..., part].relu().transpose(1, 2)
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        mixed[..., part] = weights @ v[..., part]
    local = F.conv2d(
        v[:, prefix:].transpose(1, 2).unflatten(-1, at.grid),
        *(module.dwconv.weight, module.dwconv.bias),
        padding=kernel // 2,
        groups=24,
    )
    mixed[:, prefix:] += local.flatten(2).transpose(1, 2)
    assert difference(module(x), module.proj(mixed)) < 1e-4


def test_linformer_of_all_tokens_is_plain_attention() -> None:
    at = place(1, mixer="linformer", kv_tokens=36)
    module, x = make(Linformer, at), tokens(at)
    module.mixtures.weight.copy_(torch.eye(36))
    assert difference(module(x), attention_by_torch(module, x, x)) < 1e-5


@pytest.mark.parametrize("prefix", [0, 2])
def test_linformer_sees_mixtures_of_keys_and_values(prefix: int) -> None:
    at = place(prefix, mixer="linformer", kv_tokens=5)
    module, x = make(Linformer, at), tokens(at)

    def split(t: Tensor) -> Tensor:
        return t.unflatten(-1, (3, 8)).transpose(1, 2)

    def mixed(layer: nn.Module) -> Tensor:
        kept, patches = layer(x).split([prefix, 36], 1)
        return torch.cat([kept, torch.einsum("kn,bnc->bkc", module.mixtures.weight, patches)], 1)

    q, k, v = split(module.q(x)), split(mixed(module.k)), split(mixed(module.v))
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert difference(module(x), module.proj(out)) < 1e-5


def test_performer_comes_closer_to_softmax_with_more_features() -> None:
    at = place(1, mixer="performer", num_features=8)
    plain, x = make(Attention, at), 0.25 * tokens(at)
    errors: list[float] = []
    for features in (8, 64, 512, 4096):
        module = make(Performer, place(1, mixer="performer", num_features=features))
        errors.append((module(x) - plain(x)).square().mean().sqrt().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


def test_directions_of_the_performer_are_orthogonal_and_nested() -> None:
    found = orthogonal(20, 8)
    assert found[:8].equal(orthogonal(8, 8))
    for block in (found[:8], found[8:16]):
        gram = block @ block.T
        assert difference(gram, gram.diagonal().diag()) < 1e-5
    lengths = orthogonal(8 * 500, 8).norm(dim=1).square()
    assert lengths.mean().item() == pytest.approx(8, rel=0.05)  # as of normal vectors


def test_performer_bears_large_scores() -> None:
    """Features are exponentials; none of them may overflow, nor all vanish."""
    at = place(0, mixer="performer", num_features=16)
    module = make(Performer, at)
    assert module(40 * tokens(at)).isfinite().all()


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("band", [1, 4, 7, 12, 35])
def test_banded_attention(prefix: int, band: int) -> None:
    """Masked attention over all pairs, with fewer products where the band is narrow."""
    at = place(prefix, mixer="banded", band=band)
    module, x = make(BandedAttention, at), tokens(at)
    index = torch.arange(36 + prefix) - prefix
    sees = (index[:, None] - index).abs() <= band
    sees |= (index < 0)[:, None] | (index < 0)
    expected = attention_by_torch(module, x, x, attn_mask=sees)
    assert difference(module(x), expected) < 1e-6 * max(1, expected.abs().max().item())
    macs, all_pairs = (sum(op.macs for op in find(m).ops(at)) for m in ("banded", "softmax"))
    assert macs < all_pairs or band > 10


def test_multiscale_linear_attention_is_that_of_efficientvit() -> None:
    """Timm's module, whose epsilon is of sums over tokens."""
    at = place(mixer="multiscale_linear", kernel_size=5)
    module, x = make(MultiscaleLinearAttention, at), torch.randn(2, 24, 6, 6)
    other = LiteMLA(24, 24, heads=3, dim=8, scales=(5,)).eval()
    names = {"aggreg.0.0": "dwconv", "aggreg.0.1": "pwconv", "qkv.conv": "qkv"}
    names |= {"proj.conv": "proj", "proj.norm": "bn"}
    own = module.state_dict()
    other.load_state_dict(
        {
            f"{theirs}.{rest}": value
            for theirs, ours in names.items()
            for name, value in own.items()
            if (rest := name.removeprefix(f"{ours}.")) != name
        }
    )
    assert difference(module(x), other(x)) < 1e-4


def test_cascaded_attention_is_that_of_efficientvit() -> None:
    """Timm's module, whose position biases are 0."""
    at = place(mixer="cascaded", num_groups=3, key_dim=4, kernel_size=5)
    module, x = make(CascadedAttention, at), torch.randn(2, 24, 6, 6)
    other = CascadedGroupAttention(24, 4, 3, attn_ratio=2, resolution=6, kernels=(5, 5, 5))
    other.eval()  # gives nothing back
    names = {"proj.weight": "proj.1.conv.weight"}
    names |= {n: f"proj.1.{n}" for n in module.state_dict() if n.startswith("bn.")}
    state = {names.get(name, name): value for name, value in module.state_dict().items()}
    other.load_state_dict(state | {"attention_biases": torch.zeros(3, 36)})
    assert difference(module(x), other(x)) < 1e-5
