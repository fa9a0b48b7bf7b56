"""Each mixer against a formula or a module written independently."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitpareto.spaces import Block, Place, mixers
from vitpareto.spaces.contract import MixerContract
from vitpareto.spaces.errors import ConfigError, SpaceError
from vitpareto.spaces.mixers import MIXERS, Number, find
from vitpareto.spaces.networks import shared_of
from vitpareto.spaces.networks.attention import Attention
from vitpareto.spaces.networks.linear import LinearAttention
from vitpareto.spaces.networks.mbconv import MBConv
from vitpareto.spaces.networks.pool import AveragePool
from vitpareto.spaces.networks.pooled import PooledAttention
from vitpareto.spaces.networks.token_mlp import TokenMlp
from vitpareto.spaces.networks.window import WindowAttention

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


class TestLinear(MixerContract):
    name = "linear"
    fields = "{num_heads: [2, 4], head_dim: 8, kernel_size: [3, 5]}"


class TestTokenMlp(MixerContract):
    name = "token_mlp"
    fields = "{token_mlp_ratio: [1, 2], mixer_prune_ratio: [0, 0.25]}"


class TestPool(MixerContract):
    name = "pool"


class TestIdentity(MixerContract):
    name = "identity"


class TestMBConv(MixerContract):
    name = "mbconv"
    fields = "{kernel_size: [3, 5], mixer_prune_ratio: [0, 0.25], norm: batch}"


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
