"""The range of every activation is the one with which the layers that read it err the least."""

import pytest
import torch
from torch import nn

from vitpareto.search.compress import calibrate
from vitpareto.search.compress.network import compressed, compressible
from vitpareto.search.compress.observe import RANGES, Observer
from vitpareto.search.compress.quantize import Grid, quantize_weight
from vitpareto.search.compress.ranges import Reader, closest
from vitpareto.spaces import Policy

from .conftest import Trained
from .helpers import candidate

STATIC = ("float", "static8", "stored8")


def reader(module: nn.Module, x: torch.Tensor) -> Reader:
    seen = Observer(module)
    seen.see(x)
    weight = module.get_parameter("weight").detach()
    return Reader(module, weight, quantize_weight(weight, Grid(7)), seen)


def test_it_depends_on_what_reads_it() -> None:
    """A channel with rare large values is cut where nothing reads it, and kept where it counts."""
    generator = torch.Generator().manual_seed(0)
    x, layer = torch.randn(4096, 16, generator=generator), nn.Linear(16, 8, bias=False)
    x[::512, 3] = 1e3
    with torch.no_grad():
        layer.weight[:, 3] = 0
        tops = []
        for weight in (0.0, 10.0):
            layer.weight[:, 3] = weight
            read = reader(layer, x)
            tops.append(float(RANGES[closest([read])](read.seen)[1]))
    assert tops[0] < 100 < 900 < tops[1]


@pytest.mark.parametrize("module", [nn.Linear(3, 8), nn.Conv2d(3, 8, 4, stride=4)], ids=repr)
def test_it_errs_no_more_than_any(module: nn.Module) -> None:
    shape = (8, 3, 16, 16) if isinstance(module, nn.Conv2d) else (8, 256, 3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) ** 3
    read = reader(module, x)
    errors = {name: read.error(find(read.seen)) for name, find in RANGES.items()}
    assert errors[closest([read])] == min(errors.values())


def test_layers_of_a_network_choose(trained: Trained) -> None:
    """Each activation once, for all its readers, and never worse than from end to end."""
    network, chosen = trained.network, candidate(trained.network.architecture, Policy(8, 8))
    state, seen = network.state_dict(), trained.train[:64]
    best = calibrate(network, state, chosen, seen, STATIC)
    plain = calibrate(network, state, chosen, seen, STATIC, lambda _: "min_max")
    layers = compressible(network, chosen, STATIC)
    assert best.observers.keys() == layers.keys() == best.limits.keys()
    assert len(set(best.observers.values())) > 1, "no observer is best everywhere"
    stored = compressed(state, layers)
    gained = 0
    for block in network.stages[0].blocks:  # pyright: ignore
        for names in (["attn.q", "attn.k", "attn.v"], ["attn.proj"], ["mlp.fc1"], ["mlp.fc2"]):
            paths = [
                p for p, m in network.named_modules() for n in names if m is block.get_submodule(n)
            ]
            ends = {tuple(best.entering[p].tolist()) for p in paths}
            assert len(ends) == 1 and len(paths) == len(names)
            readers = [
                Reader(
                    layers[p].module, state[f"{p}.weight"], stored[f"{p}.weight"], best.before[p]
                )
                for p in paths
            ]
            errors = [sum(r.error(c.entering[paths[0]]) for r in readers) for c in (best, plain)]
            assert errors[0] <= errors[1]
            gained += errors[0] < errors[1]
    assert gained > 0
    assert not calibrate(network, state, chosen, seen).observers, "dynamic ranges need no choice"
