"""Attention within windows and squares against masked attention by torch."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitpareto.spaces import Place
from vitpareto.spaces.mixers import find
from vitpareto.spaces.networks.aggregate import AggregatedAttention
from vitpareto.spaces.networks.attention import Attention
from vitpareto.spaces.networks.focal import FocalAttention
from vitpareto.spaces.networks.halo import HaloAttention
from vitpareto.spaces.networks.unfold import UnfoldedAttention
from vitpareto.spaces.networks.window import WindowAttention

from .formulas import attention_by_torch, make, tokens
from .helpers import difference, place


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


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
