import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitpareto.search.compress import run
from vitpareto.search.compress.observe import RANGES, Observer, min_max
from vitpareto.search.compress.quantize import (
    Grid,
    integers,
    quantize_dynamic,
    quantize_range,
    quantize_weight,
)
from vitpareto.spaces import Policy

from .conftest import Trained
from .helpers import candidate


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("per", ["tensor", "channel", "block"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_weights_are_on_the_grid(bits: int, per: str, symmetric: bool) -> None:
    weight, grid = randn(6, 40), Grid(bits, per, symmetric)  # type: ignore[arg-type]
    found = integers(weight, grid)
    assert found.values.equal(found.values.round())
    if symmetric:
        assert found.zero.eq(0).all()
        assert found.values.abs().max() == 2 ** (bits - 1) - 1
    else:
        assert found.values.min() >= 0
        assert found.values.max() <= 2**bits - 1
    rounded = quantize_weight(weight, grid)
    step = {"tensor": found.scale.max(), "channel": found.scale, "block": found.scale.max()}[per]
    assert ((rounded - weight).abs() <= step * 0.501).all()
    assert quantize_weight(rounded, grid).allclose(rounded, atol=1e-6), "it is a projection"
    assert quantize_weight(torch.zeros(2, 8), grid).eq(0).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_error_falls_with_every_bit(symmetric: bool) -> None:
    weight = randn(32, 64)
    errors = [
        (quantize_weight(weight, Grid(bits, symmetric=symmetric)) - weight).norm().item()
        for bits in range(2, 9)
    ]
    assert errors == sorted(errors, reverse=True)


def test_per_channel_is_never_worse_than_per_tensor(trained: Trained) -> None:
    layers = [m for m in trained.network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(layers) == 14
    for layer in layers:
        weight = layer.weight.detach()
        for bits in (4, 8):
            tensor, channel = (
                (quantize_weight(weight, Grid(bits, per)) - weight).norm()
                for per in ("tensor", "channel")
            )
            assert channel <= tensor
    grids = (Grid(4, "block"), Grid(4, "block", block=64), Grid(4), Grid(4, "tensor"))
    weights = [layer.weight.detach() for layer in layers]
    errors = [
        sum((quantize_weight(w, g) - w).square().sum().item() for w in weights) for g in grids
    ]
    assert errors == sorted(errors)


@pytest.mark.parametrize("skewed", [F.gelu(randn(1, 4096)), randn(1, 64, 64).softmax(-1)[0]])
def test_skewed_values_need_a_zero_point(skewed: torch.Tensor) -> None:
    symmetric, asymmetric = (
        (quantize_weight(skewed, Grid(8, "tensor", sym)) - skewed).norm() for sym in (True, False)
    )
    assert asymmetric < 0.75 * symmetric


def test_gradients_pass_straight_through() -> None:
    weight = randn(4, 8).requires_grad_()
    quantize_weight(weight, Grid(4)).mul(randn(4, 8, seed=1)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.allclose(randn(4, 8, seed=1))
    x = randn(2, 3, 8).requires_grad_()
    quantize_dynamic(x, 2).sum().backward()
    assert x.grad is not None
    assert x.grad.eq(1).all()


def test_each_image_has_its_own_range() -> None:
    small, large = randn(1, 4, 8), 100 * randn(1, 4, 8, seed=1)
    alone = quantize_dynamic(small, 1)
    assert quantize_dynamic(torch.cat([small, large]), 2)[:1].allclose(alone)
    windows = torch.cat([small, large]).view(4, 2, 8)  # two windows of each image
    assert quantize_dynamic(windows, 2)[:2].reshape(1, 4, 8).allclose(alone)


def test_ranges_of_known_activations() -> None:
    values = torch.linspace(-1, 1, 20001)
    values[0], values[-1] = -50.0, 80.0
    observer = Observer(nn.Linear(1, 1))
    for part in values[:, None].split(1000):
        observer.see(part)
    assert min_max(observer).tolist() == [-50.0, 80.0]
    assert RANGES["percentile"](observer).tolist() == pytest.approx([-1, 1], abs=1e-3)
    full, least = (
        (quantize_range(observer.sample, *ends) - observer.sample).square().mean()
        for ends in (min_max(observer), RANGES["least_error"](observer))
    )
    assert least < full
    assert observer.gram.item() == pytest.approx(values.square().mean().item(), rel=1e-3)


def test_entropy_lets_rare_values_saturate() -> None:
    """A bell keeps its shape only in steps that are narrower than the widest values allow."""
    observer, values = Observer(nn.Linear(1, 1)), randn(20001, 1)
    values[0], values[1] = -50.0, 80.0
    observer.see(values)
    low, high = RANGES["entropy"](observer).tolist()
    assert -50 < low < -3 and 3 < high < 40


def test_ranges_without_a_tail_are_whole() -> None:
    observer = Observer(nn.Linear(1, 1))
    observer.see(torch.linspace(-1, 3, 20001)[:, None])
    for choose in RANGES.values():
        assert choose(observer).tolist() == pytest.approx([-1, 3], abs=0.1)
    nothing = Observer(nn.Linear(4, 1))
    nothing.see(torch.zeros(8, 4))
    for choose in RANGES.values():
        assert choose(nothing).tolist() == [0, 0]


def test_samples_are_of_all_channels() -> None:
    wide = randn(256, 16, 32)
    wide[..., 5] *= 100
    observer = Observer(nn.Linear(32, 1))
    observer.see(wide)
    share = (observer.sample.abs() > 10).float().mean().item()
    assert share == pytest.approx((wide.abs() > 10).float().mean().item(), rel=0.3)


def test_positive_activations_have_a_range_from_zero() -> None:
    observer = Observer(nn.Linear(8, 1))
    observer.see(randn(4, 8).abs() + 1)
    for choose in RANGES.values():
        assert choose(observer)[0] == 0


def test_accuracy_survives_8_bits_and_collapses_at_2(trained: Trained) -> None:
    """Min-max grids at 2 bits are the over-quantization that a gate must catch."""
    accuracy = {
        bits: trained.accuracy(
            lambda x, bits=bits: run(
                trained.network,
                trained.network.state_dict(),
                candidate(trained.network.architecture, Policy(bits, 8)),
                x,
            )
        )
        for bits in (8, 2)
    }
    exact = trained.accuracy(trained.network)
    assert accuracy[8] > exact - 0.02
    assert accuracy[2] < exact - 0.2
