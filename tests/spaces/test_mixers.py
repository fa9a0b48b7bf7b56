"""Each mixer against a formula or a module written independently."""

import pickle
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from timm.models._efficientnet_blocks import EdgeResidual, InvertedResidual, SqueezeExcite
from timm.models.convnext import ConvNeXtBlock
from timm.models.efficientvit_mit import LiteMLA
from timm.models.efficientvit_msra import CascadedGroupAttention
from torch import Tensor, nn
from torch.nn import functional as F

from vitpareto.spaces import Block, Place, SearchSpace, mixers
from vitpareto.spaces.contract import MixerContract
from vitpareto.spaces.errors import ConfigError, SpaceError
from vitpareto.spaces.mixers import MIXERS, Number, find
from vitpareto.spaces.networks import shared_of
from vitpareto.spaces.networks.aggregate import AggregatedAttention
from vitpareto.spaces.networks.attention import Attention
from vitpareto.spaces.networks.banded import BandedAttention
from vitpareto.spaces.networks.cascaded import CascadedAttention
from vitpareto.spaces.networks.conv_next import ConvNext
from vitpareto.spaces.networks.focal import FocalAttention
from vitpareto.spaces.networks.fused_mbconv import FusedMBConv
from vitpareto.spaces.networks.halo import HaloAttention
from vitpareto.spaces.networks.linear import LinearAttention
from vitpareto.spaces.networks.linformer import Linformer
from vitpareto.spaces.networks.mbconv import MBConv
from vitpareto.spaces.networks.multiscale_linear import MultiscaleLinearAttention
from vitpareto.spaces.networks.performer import Performer, orthogonal
from vitpareto.spaces.networks.pool import AveragePool
from vitpareto.spaces.networks.pooled import PooledAttention
from vitpareto.spaces.networks.token_mlp import TokenMlp
from vitpareto.spaces.networks.unfold import UnfoldedAttention
from vitpareto.spaces.networks.window import WindowAttention
from vitpareto.spaces.safe_yaml import parse_yaml

from .helpers import difference, images, place, randomize, randomized, small

HEADS = {"num_heads": 4, "head_dim": 6}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def make(kind: type[nn.Module], at: Place, seed: int = 0) -> nn.Module:
    module = kind(at).eval()
    randomize(module.state_dict(), seed)
    return module


def tokens(at: Place) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, at.prefix + at.tokens, at.width, generator=generator)


def attention_by_torch(module: nn.Module, x: Tensor, source: Tensor, **options: object) -> Tensor:
    """Softmax attention with a module's layers and torch's own kernel."""

    def split(layer: nn.Module, t: Tensor) -> Tensor:
        return layer(t).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)

    q, k, v = split(module.q, x), split(module.k, source), split(module.v, source)
    out = F.scaled_dot_product_attention(q, k, v, **options)
    return module.proj(out.transpose(1, 2).flatten(2))


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


@pytest.mark.parametrize("window", [6, 9])
@pytest.mark.parametrize("shift", [False, True])
def test_window_of_the_whole_grid_is_plain_attention(window: int, shift: bool) -> None:
    at = place(mixer="window", window_size=window, shift=shift)
    x = tokens(at)
    assert difference(make(WindowAttention, at)(x), make(Attention, at)(x)) < 1e-6


@pytest.mark.parametrize("grid", [6, 7, 8])
@pytest.mark.parametrize("shift", [False, True])
def test_window_attention(grid: int, shift: bool) -> None:
    """A token sees those of its (shifted, padded) window that were its neighbors."""
    window = 3
    at = place(0, grid, mixer="window", window_size=window, shift=shift)
    module, x = make(WindowAttention, at), tokens(at)
    side = -(-grid // window) * window
    padded = torch.zeros(2, side, side, at.width)
    padded[:, :grid, :grid] = x.unflatten(1, at.grid)
    move = window // 2 if shift else 0
    # Windows start at -window + move, so the first and last of a row may be cut short.
    line = (torch.arange(side) + window - move) // window
    cell = (line[:, None] * side + line).flatten()
    flat = padded.flatten(1, 2)
    expected = attention_by_torch(module, flat, flat, attn_mask=cell[:, None] == cell)
    expected = expected.unflatten(1, (side, side))[:, :grid, :grid].flatten(1, 2)
    assert difference(module(x), expected) < 1e-5


def test_relative_bias_depends_on_the_offset_alone() -> None:
    at = place(0, 3, mixer="window", window_size=3)
    at = Place(at.block, at.width, at.grid, 0, 9, 9, relative=True)
    module, x = make(WindowAttention, at), tokens(at)
    bias = torch.zeros(3, 9, 9)
    for i in range(9):
        for j in range(9):
            row, column = i // 3 - j // 3 + 2, i % 3 - j % 3 + 2
            bias[:, i, j] = module.bias_table[:, row, column]
    assert difference(module(x), attention_by_torch(module, x, x, attn_mask=bias)) < 1e-5


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


@pytest.mark.parametrize("grid", [6, 7])
@pytest.mark.parametrize("halo", [0, 1, 2, 4])
def test_halo_attention(grid: int, halo: int) -> None:
    """Windows see a larger square; zeros beyond the grid take part."""
    at = place(0, grid, mixer="halo", window_size=3, halo=halo)
    module, x = make(HaloAttention, at), tokens(at)
    side, reach = -(-grid // 3) * 3, 3 + 2 * halo
    padded = F.pad(x.unflatten(1, at.grid), (0, 0, 0, side - grid, 0, side - grid))
    q, k, v = module.q(padded), module.k(padded), module.v(padded)
    k, v = (F.pad(t, (0, 0, halo, halo, halo, halo)) for t in (k, v))
    expected = torch.zeros(2, side, side, 24)
    for i in range(0, side, 3):
        for j in range(0, side, 3):
            parts = (
                q[:, i : i + 3, j : j + 3],
                *(t[:, i : i + reach, j : j + reach] for t in (k, v)),
            )
            heads = (p.flatten(1, 2).unflatten(-1, (3, 8)).transpose(1, 2) for p in parts)
            out = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
            expected[:, i : i + 3, j : j + 3] = module.proj(out).unflatten(1, (3, 3))
    expected = expected[:, :grid, :grid].flatten(1, 2)
    assert difference(module(x), expected) < 1e-5


@pytest.mark.parametrize(("mixer", "kind"), [("halo", HaloAttention), ("focal", FocalAttention)])
@pytest.mark.parametrize("grid", [6, 7])
@pytest.mark.parametrize("relative", [False, True])
def test_without_surroundings_it_is_window_attention(
    mixer: str, kind: type[nn.Module], grid: int, relative: bool
) -> None:
    """Halo 0, and one focal level."""
    at = place(0, grid, mixer=mixer, window_size=3, focal_levels=1)
    at = replace(at, relative=relative)
    plain = replace(place(0, grid, mixer="window", window_size=3), relative=relative)
    module, window, x = make(kind, at), make(WindowAttention, plain), tokens(at)
    assert difference(module(x), window(x)) == 0
    assert sum(op.macs for op in find(mixer).ops(at)) == sum(
        op.macs for op in find("window").ops(plain)
    )


def test_relative_bias_of_a_halo() -> None:
    """One window with its halo: the bias depends on the offset alone."""
    at = replace(place(0, 2, mixer="halo", window_size=2, halo=1), relative=True)
    module = make(HaloAttention, at)
    found = module.biases(module.bias_table)  # (heads, queries, keys)
    assert found.shape == (3, 4, 16)
    for query in range(4):
        for key in range(16):
            row, column = query // 2 - (key // 4 - 1) + 2, query % 2 - (key % 4 - 1) + 2
            assert found[:, query, key].equal(module.bias_table[:, row, column])


@pytest.mark.parametrize("grid", [6, 7, 8])
def test_focal_attention(grid: int) -> None:
    """A window sees itself, and as many squares of 2 and of 4 tokens as are nearest to it."""
    at = place(0, grid, mixer="focal", window_size=3, focal_levels=3)
    module, x = make(FocalAttention, at), tokens(at)
    square = x.unflatten(1, at.grid)
    side = -(-grid // 3) * 3
    padded = F.pad(square, (0, 0, 0, side - grid, 0, side - grid))
    expected = torch.zeros(2, side, side, 24)
    for i in range(0, side, 3):
        for j in range(0, side, 3):
            own = padded[:, i : i + 3, j : j + 3].flatten(1, 2)
            seen = [own]
            for size in (2, 4):
                count = -(-grid // size)
                part = min(3, count)
                centers = (int((start + 1.5) // size) for start in (i, j))
                top, left = (min(max(0, c - part // 2), count - part) for c in centers)
                for row in range(size * top, size * (top + part), size):
                    for column in range(size * left, size * (left + part), size):
                        cell = square[:, row : row + size, column : column + size]
                        seen.append(cell.mean((1, 2))[:, None])
            out = attention_by_torch(module, own, torch.cat(seen, 1))
            expected[:, i : i + 3, j : j + 3] = out.unflatten(1, (3, 3))
    expected = expected[:, :grid, :grid].flatten(1, 2)
    assert difference(module(x), expected) < 1e-5


def test_token_mlp_mixes_tokens_and_no_channels() -> None:
    at = place(mixer="token_mlp", token_hidden=10)
    module, x = make(TokenMlp, at), tokens(at)
    for channel in (0, 23):
        hidden = F.gelu(x[..., channel] @ module.fc1.weight.T + module.fc1.bias)
        expected = hidden @ module.fc2.weight.T + module.fc2.bias
        assert difference(module(x)[..., channel], expected) < 1e-5


def test_average_pool() -> None:
    x = torch.randn(2, 24, 6, 6)
    out = AveragePool(place(mixer="pool"))(x)
    assert difference(out[..., 2, 3], x[..., 1:4, 2:5].mean((2, 3)) - x[..., 2, 3]) < 1e-6
    assert difference(out[..., 0, 0], x[..., :2, :2].mean((2, 3)) - x[..., 0, 0]) < 1e-6


def test_mbconv() -> None:
    at = place(mixer="mbconv", kernel_size=5, mlp_hidden=48)
    module, x = make(MBConv, at), torch.randn(2, 24, 6, 6)

    def norm(bn: nn.Module, t: Tensor) -> Tensor:
        shape = (-1, 1, 1)
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return (t - bn.running_mean.view(shape)) * scale.view(shape) + bn.bias.view(shape)

    expected = torch.einsum("bchw,dc->bdhw", x, module.conv_pw.weight[..., 0, 0])
    expected = F.gelu(norm(module.bn1, expected))
    expected = F.conv2d(expected, module.conv_dw.weight, padding=2, groups=48)
    expected = F.gelu(norm(module.bn2, expected))
    expected = torch.einsum("bchw,dc->bdhw", expected, module.conv_pwl.weight[..., 0, 0])
    assert difference(module(x), norm(module.bn3, expected)) < 1e-5


@pytest.mark.parametrize("grid", [6, 7])
def test_aggregated_attention(grid: int) -> None:
    """Windows by torch's own kernel, and three attentions through the learned tokens."""
    at = place(0, grid, mixer="aggregate", window_size=3, global_tokens=4)
    module, x = make(AggregatedAttention, at), tokens(at)
    side = -(-grid // 3) * 3
    padded = F.pad(x.unflatten(1, at.grid), (0, 0, 0, side - grid, 0, side - grid)).flatten(1, 2)
    q, k, v = (
        layer(padded).unflatten(-1, (3, 8)).transpose(1, 2)
        for layer in (module.q, module.k, module.v)
    )
    line = torch.arange(side) // 3
    cell = (line[:, None] * side + line).flatten()
    attend = F.scaled_dot_product_attention
    local = attend(q, k, v, attn_mask=cell[:, None] == cell)
    collected = attend(module.latent.expand(2, -1, -1, -1), k, v)
    collected = collected + attend(collected, collected, collected)
    flat = collected.transpose(1, 2).flatten(2)
    k, v = (
        layer(flat).unflatten(-1, (3, 8)).transpose(1, 2)
        for layer in (module.k_global, module.v_global)
    )
    expected = module.proj((local + attend(q, k, v)).transpose(1, 2).flatten(2))
    expected = expected.unflatten(1, (side, side))[:, :grid, :grid].flatten(1, 2)
    assert difference(module(x), expected) < 1e-5


def test_unfolded_attention() -> None:
    """A token sees those with its place in their square; squares of one token are no squares."""
    at = place(mixer="unfold", unfold_size=3)
    module, x = make(UnfoldedAttention, at), tokens(at)
    row, column = torch.arange(36) // 6 % 3, torch.arange(36) % 6 % 3
    same = (row[:, None] == row) & (column[:, None] == column)
    assert difference(module(x), attention_by_torch(module, x, x, attn_mask=same)) < 1e-5
    whole = place(mixer="unfold", unfold_size=1)
    assert difference(make(UnfoldedAttention, whole)(x), make(Attention, at)(x)) < 1e-6


def test_multiscale_linear_attention_is_that_of_efficientvit() -> None:
    """Timm's module, with our epsilon."""
    at = place(mixer="multiscale_linear", kernel_size=5)
    module, x = make(MultiscaleLinearAttention, at), torch.randn(2, 24, 6, 6)
    other = LiteMLA(24, 24, heads=3, dim=8, scales=(5,), eps=module.eps * 36).eval()
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


def test_mbconv_with_squeeze_and_excitation_is_that_of_mobilenet() -> None:
    at = replace(place(mixer="mbconv", kernel_size=5, mlp_hidden=48, se_hidden=8), act="hardswish")
    module, x = make(MBConv, at), torch.randn(2, 24, 6, 6)
    excite = partial(
        SqueezeExcite, rd_channels=8, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU
    )
    settings = {"dw_kernel_size": 5, "exp_ratio": 2.0, "act_layer": nn.Hardswish}
    other = InvertedResidual(24, 24, se_layer=excite, noskip=True, **settings).eval()
    other.load_state_dict(module.state_dict())
    assert difference(module(x), other(x)) < 1e-5


def test_fused_mbconv_is_that_of_efficientnet() -> None:
    at = place(mixer="fused_mbconv", kernel_size=3, mlp_hidden=48)
    module, x = make(FusedMBConv, at), torch.randn(2, 24, 6, 6)
    other = EdgeResidual(24, 24, 3, exp_ratio=2.0, act_layer=nn.GELU, noskip=True).eval()
    other.load_state_dict(module.state_dict())
    assert difference(module(x), other(x)) < 1e-5


def test_conv_next_is_that_of_timm() -> None:
    at = place(mixer="conv_next", kernel_size=7, mlp_hidden=96)
    module, x = make(ConvNext, at), torch.randn(2, 24, 6, 6)
    other = ConvNeXtBlock(24, ls_init_value=None).eval()
    other.load_state_dict(
        {name.replace("fc", "mlp.fc"): value for name, value in module.state_dict().items()}
    )
    assert difference(x + module(x), other(x)) < 1e-5


IMPOSSIBLE = {
    "{mixer: banded, token_keep: 0.5}": "token_keep 0.5 cannot follow mixer 'banded'",
    "{mixer: banded, band: 64}": "band 64 must be at least 1, and less than the tokens of the 8x8",
    "{mixer: linformer, kv_tokens: 65}": "kv_tokens 65 must be at least 1, and at most the tokens",
    "{mixer: linformer, patch_size: [4, 8]}": "'linformer' has weights for one number of tokens",
    "{mixer: unfold, unfold_size: 3}": "unfold_size 3 must divide the token grid of 8x8",
    "{mixer: focal, focal_levels: 5}": "focal_levels 5 must be at least 1, and squares",
    "{mixer: halo, halo: 9}": "halo 9 is larger than the token grid of 8x8",
    "{mixer: halo, global_pool: token}": "mixer 'halo' cannot carry a class token",
    "{mixer: aggregate, global_tokens: 0}": "needs global_tokens above 0",
    "{mixer: performer, num_features: 0}": "needs num_features above 0",
    "{mixer: performer, token_keep: 0.5}": "has no attention map of all tokens to rank them by",
    "{mixer: cascaded, num_groups: 3}": "num_groups that divide the width, not 16, 3 and 16",
    "{mixer: cascaded, key_dim: [8, 16]}": "key_dim: takes one value, not a choice",
}


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_what_cannot_work_is_refused_when_a_space_is_read(text: str) -> None:
    around = {"name": "x", "input_size": 32, "patch_size": 4, "num_classes": 3, "num_heads": 2}
    stages = {"global_pool": "avg", "stages": [{"depth": 2, "width": 16}]}
    with pytest.raises(SpaceError, match=re.escape(IMPOSSIBLE[text])):
        SearchSpace(around | stages | parse_yaml(text, "x"))


def test_a_band_is_never_drawn_after_tokens_were_dropped() -> None:
    stage = {"depth": 3, "width": 16, "token_keep": [1.0, 0.5], "token_keep_at": "0"}
    stage["blocks"] = {"mixer": ["softmax", "banded", "identity"]}
    around = {"name": "x", "input_size": 32, "patch_size": 4, "num_classes": 3, "num_heads": 2}
    space = SearchSpace({**around, "global_pool": "avg", "stages": [stage]})
    for candidate in space.sample(40):
        first, *others = candidate.architecture.blocks()
        assert first.token_keep == 1 or "banded" not in {block.mixer for block in others}


def test_those_that_rank_tokens_do_not_need_the_grid() -> None:
    for traits in map(find, MIXERS):
        if traits.ranks_tokens:
            assert traits.layout == "tokens" and not traits.needs_grid


def test_identity_leaves_the_stream_alone() -> None:
    """Its block is the MLP, even where layer scale and norms are no identity."""
    nothing = Block("identity", mlp_hidden=48)
    network = randomized(small(nothing, layer_scale=True))
    block, x = network.stages[0].blocks[0], torch.randn(2, 64, 24)
    assert block.mix(x).equal(x)
    assert {name.partition(".")[0] for name, _ in block.named_parameters()} == {
        *("norm2", "mlp", "ls2")
    }


def test_mixers_without_a_map_drop_tokens_at_random() -> None:
    """Only the least attended are of a map."""
    block = Block("identity", mlp_hidden=48, token_keep=0.5)
    x = torch.randn(2, 3, 32, 32)
    network = randomized(small(block, token_reduction="random"))
    assert network(x).shape == (2, 5)
    assert network.stages[0].blocks[0].mix(torch.randn(2, 64, 24)).shape == (2, 32, 24)
    with pytest.raises(SpaceError, match="cannot follow mixer 'identity', which has no attention"):
        randomized(small(block))


# The laws of all mixers, with every number and pruning.


class TestSoftmax(MixerContract):
    name = "softmax"
    fields = "{num_heads: [2, 4], head_dim: 8, mixer_prune_ratio: [0, 0.5]}"


class TestGrouped(MixerContract):
    name = "grouped"
    fields = "{num_heads: [2, 4], kv_heads: [1, 2, 4], head_dim: [4, 8]}"


class TestPooled(MixerContract):
    name = "pooled"
    fields = "{num_heads: [2, 4], head_dim: 8, kv_pool: [1, 2, 3]}"


class TestWindow(MixerContract):
    name = "window"
    fields = "{num_heads: [2, 4], head_dim: 8, window_size: [3, 5, 7], pos_embed: relative}"


class TestCosineWindow(MixerContract):
    name = "cosine_window"
    fields = "{num_heads: [2, 4], head_dim: 8, window_size: [3, 5], mixer_prune_ratio: [0, 0.5]}"


class TestLinear(MixerContract):
    name = "linear"
    fields = "{num_heads: [2, 4], head_dim: 8, kernel_size: [3, 5]}"


class TestTokenMlp(MixerContract):
    name = "token_mlp"
    fields = "{token_mlp_ratio: [1, 2], mixer_prune_ratio: [0, 0.25]}"


class TestTokenLinear(MixerContract):
    name = "token_linear"


class TestPool(MixerContract):
    name = "pool"


class TestIdentity(MixerContract):
    name = "identity"


class TestLinformer(MixerContract):
    name = "linformer"
    fields = "{num_heads: [2, 4], head_dim: 8, kv_tokens: [1, 7, 49]}"


class TestPerformer(MixerContract):
    name = "performer"
    fields = "{num_heads: [2, 4], head_dim: [4, 8], num_features: [4, 12]}"


class TestBanded(MixerContract):
    name = "banded"
    fields = "{num_heads: [2, 4], head_dim: 8, band: [2, 9, 30]}"


class TestHalo(MixerContract):
    name = "halo"
    fields = """{num_heads: [2, 4], head_dim: 8, window_size: [3, 7], halo: [0, 1, 3],
        pos_embed: relative}"""


class TestFocal(MixerContract):
    name = "focal"
    fields = """{num_heads: [2, 4], head_dim: 8, window_size: [2, 3], focal_levels: [1, 2, 3],
        pos_embed: relative}"""


class TestAggregate(MixerContract):
    name = "aggregate"
    fields = """{num_heads: [2, 4], head_dim: 8, mixer_prune_ratio: [0, 0.5], window_size: [3, 4],
        global_tokens: [2, 5], pos_embed: relative}"""


class TestUnfold(MixerContract):
    name = "unfold"
    fields = "{num_heads: [2, 4], head_dim: 8, unfold_size: [1, 7]}"


class TestMultiscaleLinear(MixerContract):
    name = "multiscale_linear"
    fields = "{num_heads: [2, 4], head_dim: [4, 8], kernel_size: [3, 5]}"


class TestCascaded(MixerContract):
    name = "cascaded"
    fields = "{num_groups: [1, 2, 4], key_dim: 4, kernel_size: [3, 5]}"


class TestMBConv(MixerContract):
    name = "mbconv"
    fields = """{kernel_size: [3, 5], mixer_prune_ratio: [0, 0.25], norm: batch,
        se_ratio: [0, 0.5, 1], act: hardswish}"""


class TestActivatedMBConv(MixerContract):
    name = "mbconv_act"
    fields = "{kernel_size: [3, 5], mixer_prune_ratio: [0, 0.25], act: relu}"


class TestDepthwise(MixerContract):
    name = "depthwise"
    fields = "{kernel_size: [3, 5]}"


class TestFusedMBConv(MixerContract):
    name = "fused_mbconv"
    fields = "{kernel_size: [3, 5], mixer_prune_ratio: [0, 0.25], norm: batch}"


class TestConvNext(MixerContract):
    name = "conv_next"
    fields = "{kernel_size: [3, 7], mixer_prune_ratio: [0, 0.25]}"


def test_every_mixer_has_its_laws() -> None:
    assert {law.name for law in MixerContract.__subclasses__()} == set(MIXERS)


@pytest.mark.parametrize("law", MixerContract.__subclasses__(), ids=lambda law: law.name)
def test_a_worker_is_sent_the_same_network(law: type[MixerContract]) -> None:
    """With the rules by which smaller ones are cut from it."""
    for candidate in law.candidates()[:3]:
        network = randomized(candidate.architecture)
        sent, x = pickle.loads(pickle.dumps(network)), images(candidate)
        assert sent(x).equal(network(x))
        for name, (rule, shape) in shared_of(sent).items():
            source = torch.randn(rule.shape) + torch.arange(rule.shape[-1])
            old, _ = shared_of(network)[name]
            assert rule.cut(source, shape).equal(old.cut(source, shape))


def test_numbers_mean_one_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mixer", "numbers", "_width", "3x3"):
        with pytest.raises(ValueError, match="needs another name"):
            Number(name)
    other = replace(find("linear"), numbers=(Number("kernel_size", 5),))
    monkeypatch.setattr(mixers, "find", lambda name: other if name == "mbconv" else find(name))
    mixers.numbers.cache_clear()
    with pytest.raises(ConfigError, match="mixer 'mbconv': its number 'kernel_size' is not that"):
        mixers.numbers()
