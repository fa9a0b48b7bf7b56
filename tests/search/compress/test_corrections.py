"""Bias correction and RepQ: nothing changes in float, less is lost in integers."""

import pytest
import torch

from vitpareto.search.compress import calibrate, compensated, deliverable, run
from vitpareto.search.compress.bias_correction import correct_biases
from vitpareto.search.compress.equalize import equalized
from vitpareto.search.compress.network import Layers, compressible
from vitpareto.search.compress.repq import norms_and_readers, reparametrize
from vitpareto.spaces import Block, Candidate, Policy
from vitpareto.spaces.networks import Network

from .conftest import Trained
from .helpers import architecture, candidate, delivered_logits, images, random_network, relative

DYNAMIC = ("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4")
STATIC = ("float", "fp16", "static8", "stored8", "static4", "stored4")


POLICIES = [
    Policy(3, 32),
    Policy(4, 8),
    Policy(32, sparsity=0.6),
    Policy(rank_ratio=0.2),
    Policy(8, 8, rank_ratio=0.3),
]


@pytest.mark.parametrize("recipes", [DYNAMIC, STATIC], ids=lambda r: r[2])
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_corrected_biases_restore_mean_outputs(
    trained: Trained, policy: Policy, recipes: tuple[str, ...]
) -> None:
    chosen = candidate(trained.network.architecture, policy)
    state, seen = trained.network.state_dict(), trained.train[:256]
    calibration = calibrate(trained.network, state, chosen, seen)
    corrected = correct_biases(trained.network, state, chosen, seen, calibration, recipes)
    changed = {name for name in state if not state[name].equal(corrected[name])}
    assert "head.bias" in changed
    assert changed <= {n for n in state if n.endswith("bias") and "norm" not in n}

    def shifts(images: torch.Tensor) -> tuple[float, float]:
        with torch.no_grad():
            exact = trained.network(images).mean(0)
            before, after = (
                run(trained.network, params, chosen, images, recipes, calibration).mean(0)
                for params in (state, corrected)
            )
        return (before - exact).norm().item(), (after - exact).norm().item()

    before, after = shifts(seen)
    assert after < 0.05 * before
    before, after = shifts(trained.held_out)
    assert after < before


def integers(network: Network, chosen: Candidate) -> Layers:
    return compressible(network, chosen, STATIC)


ATTENTION = {"num_heads": 4, "head_dim": 8, "mlp_hidden": 64}
BLOCKS = [
    Block(**ATTENTION),
    Block("window", **ATTENTION, window_size=2),
    Block("window", **ATTENTION, window_size=3),  # pads the 4x4 grid
    Block("linear", **ATTENTION, kernel_size=3),
    Block("pooled", **ATTENTION, kv_pool=2),
    Block("grouped", **ATTENTION, kv_heads=2),
    Block("token_mlp", token_hidden=16, mlp_hidden=64),
    Block("linformer", **ATTENTION, kv_tokens=5),
    Block("performer", **ATTENTION, num_features=12),
    Block("banded", **ATTENTION, band=3),
    Block("focal", **ATTENTION, window_size=2, focal_levels=2),
    Block("aggregate", **ATTENTION, window_size=2, global_tokens=3),
    Block("unfold", **ATTENTION, unfold_size=2),
]


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.mixer}{b.window_size}")
def test_repq_changes_nothing_in_float(block: Block, norm: str) -> None:
    a = architecture(block, block, norm=norm)
    network, x = random_network(a), images(a)
    chosen, state = candidate(a, Policy(8, 8)), network.state_dict()
    moved = reparametrize(
        network, state, calibrate(network, state, chosen, x), integers(network, chosen)
    )
    changed = {name.split(".")[4] for name in state if not state[name].equal(moved[name])}
    mixes = block.mixer != "token_mlp" and block.window_size != 3
    assert changed == {"norm2", "mlp"} | ({"norm1", "attn"} if mixes else set())
    with torch.no_grad():
        exact = network(x)
        network.load_state_dict(moved)
        assert relative(network(x), exact) < 1e-5


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: f"{b.mixer}{b.window_size}")
def test_equalizing_changes_nothing_in_float(block: Block) -> None:
    a = architecture(block, act="relu")
    network, x = random_network(a), images(a)
    state = network.state_dict()
    moved = equalized(network, state, calibrate(network, state, candidate(a, Policy(8, 8)), x))
    assert not moved["stages.0.blocks.0.mlp.fc2.weight"].equal(
        state["stages.0.blocks.0.mlp.fc2.weight"]
    )
    with torch.no_grad():
        exact = network(x)
        network.load_state_dict(moved)
        assert relative(network(x), exact) < 1e-5


def test_equalizing_evens_what_is_between() -> None:
    network, x = random_network(architecture()), images(architecture(), 16)
    chosen = candidate(network.architecture, Policy(8, 8))
    with torch.no_grad():  # one value of each head is a hundred times wider than the others
        for block in network.stages[0].blocks:  # pyright: ignore
            block.attn.v.weight[::8] *= 100
            block.attn.proj.weight[:, ::8] /= 100
        exact, errors = network(x), []
        for by in ((), ("equalize",)):
            ready = compensated(network, chosen, STATIC, x, by)
            errors.append(relative(delivered_logits(ready, chosen, x, STATIC, x), exact))
    assert errors[1] < 0.5 * errors[0]


def test_repq_makes_all_channels_equally_wide() -> None:
    network, x = random_network(architecture()), images(architecture(), 16)
    chosen = candidate(network.architecture, Policy(8, 8))
    state = network.state_dict()
    calibration = calibrate(network, state, chosen, x)
    moved = reparametrize(network, state, calibration, integers(network, chosen))
    seen = calibrate(network, moved, chosen, x).before
    for _, readers in norms_and_readers(network):
        lows, highs = seen[readers[0]].lows, seen[readers[0]].highs
        assert lows.std() < 1e-3 * (highs - lows).mean()
        assert highs.std() < 1e-3 * (highs - lows).mean()


def test_repq_leaves_coarse_weights_alone(trained: Trained) -> None:
    state = trained.network.state_dict()
    for policy, recipes in [(Policy(4, 8), STATIC), (Policy(8, 8), DYNAMIC), (Policy(8), STATIC)]:
        chosen = candidate(trained.network.architecture, policy)
        calibration = calibrate(trained.network, state, chosen, trained.train[:64])
        layers = compressible(trained.network, chosen, recipes)
        moved = reparametrize(trained.network, state, calibration, layers)
        assert all(moved[name].equal(state[name]) for name in state)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_repq_lowers_the_error_of_one_range_for_all_channels(norm: str) -> None:
    """Norms whose channels differ in width by a hundred, as those of large trained networks do."""
    network = random_network(architecture(norm=norm))
    x = images(network.architecture, 64)
    with torch.no_grad():
        for path, readers in norms_and_readers(network):
            spread = torch.logspace(-1, 1, 32)[torch.randperm(32)]
            network.get_submodule(path).weight.mul_(spread)
            for reader in readers:
                network.get_submodule(reader).weight.div_(spread)
    chosen, state = candidate(network.architecture, Policy(8, 8)), network.state_dict()

    def error(params: dict[str, torch.Tensor]) -> float:
        calibration = calibrate(network, params, chosen, x)
        with torch.no_grad():
            return relative(run(network, params, chosen, x, STATIC, calibration), network(x))

    before = error(state)
    calibration = calibrate(network, state, chosen, x)
    moved = reparametrize(network, state, calibration, integers(network, chosen))
    assert error(moved) < 0.5 * before


@pytest.mark.parametrize("recipes", [DYNAMIC, STATIC], ids=lambda r: r[2])
@pytest.mark.parametrize(
    "policy", [Policy(8, 8), Policy(3, 8), Policy(4, 8, rank_ratio=0.4)], ids=str
)
def test_compensation_on_and_off(
    trained: Trained, policy: Policy, recipes: tuple[str, ...]
) -> None:
    """Without any training: closer to the float network, and not less accurate."""
    chosen, seen = candidate(trained.network.architecture, policy), trained.train[:256]
    calibration = calibrate(trained.network, trained.network.state_dict(), chosen, seen)
    plain = deliverable(trained.network, chosen, calibration)
    better = compensated(plain, chosen, recipes, seen)
    assert better.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        exact = plain(trained.held_out)
        off, on = (
            delivered_logits(network, chosen, trained.held_out, recipes, seen)
            for network in (plain, better)
        )
    assert relative(on, exact) < relative(off, exact)
    right = [(x.argmax(1) == trained.held_out_labels).float().mean() for x in (off, on)]
    assert right[1] >= right[0] - 0.015


@pytest.mark.parametrize("block", BLOCKS[:5], ids=lambda b: f"{b.mixer}{b.window_size}")
def test_repq_of_factored_networks(block: Block) -> None:
    a = architecture(block, block)
    chosen, x = candidate(a, Policy(8, 8, rank_ratio=0.4)), images(a)
    thin = deliverable(random_network(a), chosen)
    state = thin.state_dict()
    calibration = calibrate(thin, state, chosen, x)
    moved = reparametrize(thin, state, calibration, integers(thin, chosen))
    assert not moved["stages.0.blocks.0.norm2.weight"].equal(
        state["stages.0.blocks.0.norm2.weight"]
    )
    with torch.no_grad():
        exact = thin(x)
        thin.load_state_dict(moved)
        assert relative(thin(x), exact) < 1e-5
