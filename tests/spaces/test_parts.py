"""Norms, stems and token reduction against formulas, torch and timm."""

from itertools import combinations

import pytest
import torch
from timm.layers import resample_patch_embed
from torch import Tensor, nn
from torch.nn import functional as F

from vitpareto.spaces import Block
from vitpareto.spaces.architecture import TOKEN_REDUCTIONS
from vitpareto.spaces.networks.norms import make_norm
from vitpareto.spaces.networks.reduction import MeanReduction, RandomReduction, TokenReduction
from vitpareto.spaces.networks.stems import PatchEmbed, PatchMerging
from vitpareto.spaces.places import places

from .helpers import difference, place, randomize, randomized, small


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def norm_of(kind: str, layout: str = "tokens", width: int = 24) -> nn.Module:
    norm = make_norm(kind, width, 1e-5, layout).eval()
    randomize({f"norm.{name}": t for name, t in norm.state_dict().items()})
    return norm


@pytest.mark.parametrize("kind", ["layer", "rms", "batch", "group", "group1"])
def test_norms_of_grids_and_of_tokens_agree(kind: str) -> None:
    x = torch.randn(2, 36, 24)
    grid = x.transpose(1, 2).unflatten(-1, (6, 6))
    expected = norm_of(kind)(x).transpose(1, 2).unflatten(-1, (6, 6))
    assert difference(norm_of(kind, "grid")(grid), expected) < 1e-5


def test_norms_against_torch_and_formulas() -> None:
    x = torch.randn(2, 36, 24) * 3 + 1
    rms = norm_of("rms")
    assert difference(rms(x), F.rms_norm(x, (24,), rms.weight, 1e-5)) < 1e-5
    layer = norm_of("layer")
    assert difference(layer(x), F.layer_norm(x, (24,), layer.weight, layer.bias, 1e-5)) < 1e-5
    batch = norm_of("batch")
    scale = batch.weight / (batch.running_var + 1e-5).sqrt()
    assert difference(batch(x), (x - batch.running_mean) * scale + batch.bias) < 1e-5
    group = norm_of("group")
    split = x.unflatten(-1, (3, 8))  # eight channels share their statistics over all tokens
    mean = split.mean((1, 3), keepdim=True)
    variance = split.var((1, 3), keepdim=True, correction=0)
    expected = ((split - mean) / (variance + 1e-5).sqrt()).flatten(2) * group.weight + group.bias
    assert difference(group(x), expected) < 1e-5
    one = norm_of("group1")  # all channels of all tokens share theirs
    scaled = (x - x.mean((1, 2), keepdim=True)) / (
        x.var((1, 2), keepdim=True, correction=0) + 1e-5
    ).sqrt()
    assert difference(one(x), scaled * one.weight + one.bias) < 1e-5


@pytest.mark.parametrize("width", [24, 16])
def test_group_norm_of_fewer_channels_is_a_slice(width: int) -> None:
    """Groups have a fixed number of channels, so that other widths share their statistics."""
    x = torch.randn(2, 36, 24)
    narrow = norm_of("group", width=width)
    narrow.load_state_dict({n: t[:width] for n, t in norm_of("group").state_dict().items()})
    assert difference(narrow(x[..., :width]), norm_of("group")(x)[..., :width]) < 1e-6


# Patch kernels.


@pytest.mark.parametrize(("old", "new"), [(16, 32), (16, 28), (16, 8), (4, 6), (8, 8)])
def test_patch_resize_is_that_of_timm(old: int, new: int) -> None:
    kernel = torch.randn(5, 3, old, old)
    resized = PatchEmbed(3, 5, new).shared["proj.weight"].cut(kernel, torch.Size((5, 3, new, new)))
    options = {"interpolation": "bilinear", "antialias": True}
    expected = resample_patch_embed(kernel, [new, new], **options)
    assert difference(resized, expected) < 1e-4


@pytest.mark.parametrize(("old", "new"), [(16, 32), (16, 28), (4, 6)])
def test_patch_resize_is_exact_when_patches_grow(old: int, new: int) -> None:
    kernel, patch = torch.randn(5, 3, old, old), torch.randn(2, 3, old, old)
    resized = PatchEmbed(3, 5, new).shared["proj.weight"].cut(kernel, torch.Size((5, 3, new, new)))
    grown = F.interpolate(patch, (new, new), mode="bilinear", antialias=True)
    wanted = F.conv2d(patch, kernel)
    assert difference(F.conv2d(grown, resized), wanted) < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(("own", "shared"), [(16, 32), (16, 28), (4, 8), (2, 8), (8, 8)])
def test_a_kernel_survives_being_shared(own: int, shared: int) -> None:
    rule = PatchEmbed(3, 5, own).shared["proj.weight"]
    kernel = torch.randn(5, 3, own, own)
    assert rule.unfold is not None
    large = rule.unfold(kernel, torch.Size((5, 3, shared, shared)))
    assert large.shape[-1] == shared
    assert difference(rule.cut(large, kernel.shape), kernel) < 1e-4


def test_patch_merging_reads_four_neighbors() -> None:
    module = PatchMerging(8, 12, (4, 4), "layer", 1e-6)
    x = torch.arange(16.0)[None, :, None].expand(1, 16, 8)
    module.norm = nn.Identity()
    module.reduction.weight.zero_()
    module.reduction.weight[:4] = torch.eye(4).repeat(1, 8) / 8
    rows = module(x)[0, :, :4].sort().values
    assert rows.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


# Token reduction.


def scores_and_tokens(prefix: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(prefix)
    n = prefix + 36
    scores = torch.randn(2, 3, n, n, generator=generator).softmax(-1)
    return scores, torch.randn(2, n, 24, generator=generator)


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_evit_against_an_explicit_complement(prefix: int) -> None:
    at = place(prefix, keep=11)  # ten on their own, and the fused one
    scores, x = scores_and_tokens(prefix)
    out, mean = (kind(at)(x, scores) for kind in (TokenReduction, MeanReduction))
    assert out.shape == mean.shape == (2, prefix + 11, 24)
    assert mean[:, :-1].equal(out[:, :-1])
    for image in range(2):
        rank = scores[image, :, 0, prefix:].mean(0) if prefix else scores[image].mean((0, 1))
        order = sorted(range(36), key=lambda i: -rank[i].item())
        patches = x[image, prefix:]
        fused = sum(rank[i] * patches[i] for i in order[10:])
        expected = torch.cat([x[image, :prefix], patches[order[:10]], fused[None]])
        assert difference(out[image], expected) < 1e-5
        share = sum(rank[i] for i in order[10:])
        assert difference(mean[image, -1], fused / share) < 1e-3


def test_random_control_ignores_the_attention_map() -> None:
    at = place(1, keep=10)
    scores, x = scores_and_tokens(1)
    out = RandomReduction(at)(x, scores)
    assert out.shape == (2, 11, 24)
    assert difference(out, RandomReduction(at)(x, scores.flip(-1))) == 0
    assert difference(out[:, 0], x[:, 0]) == 0
    kept = [j for row in out[0, 1:] for j in range(1, 37) if row.equal(x[0, j])]
    assert len(set(kept)) == 10
    assert kept == sorted(kept) != list(range(1, 11))


@pytest.mark.parametrize("pool", ["avg", "token", "distill"])
def test_reduction_inside_a_network(pool: str) -> None:
    block = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=48)
    dropping = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=48, token_keep=0.5)
    x = torch.randn(2, 3, 32, 32)
    logits = {
        how: randomized(small(dropping, block, global_pool=pool, token_reduction=how))(x)
        for how in TOKEN_REDUCTIONS
    }
    for one, other in combinations(TOKEN_REDUCTIONS, 2):
        assert difference(logits[one], logits[other]) > 1e-3
    evit = small(dropping, block, global_pool=pool)
    assert [(p.tokens, p.kept) for [*stage] in places(evit) for p in stage] == [(64, 33), (33, 33)]


def test_a_fused_token_never_comes_on_top_of_all() -> None:
    """On grids so small that the share to keep is rounded up to all of them."""
    dropping = Block("softmax", num_heads=3, head_dim=8, token_keep=0.9)
    few = small(*[dropping] * 4, input_size=8)
    assert [p.kept for [*stage] in places(few) for p in stage] == [3, 2, 1, 1]
    assert torch.isfinite(randomized(few)(torch.randn(2, 3, 8, 8))).all()


def test_keeping_all_is_the_identity() -> None:
    keeping = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=48, token_keep=1.0)
    plain = Block("softmax", num_heads=3, head_dim=8, mlp_hidden=48)
    x = torch.randn(2, 3, 32, 32)
    assert difference(randomized(small(keeping))(x), randomized(small(plain))(x)) == 0
    # The last token can only be fused into itself: what is left out is scaled, nothing more.
    at = place(0, keep=36)
    scores, tokens = scores_and_tokens(0)
    out = TokenReduction(at)(tokens, scores)
    rank = scores.mean((1, 2))
    least = rank.argmin(1)
    for image in range(2):
        last = tokens[image, least[image]] * rank[image, least[image]]
        assert difference(out[image, -1], last) < 1e-5
