"""Every transform keeps the contract; those without a field are listed and work."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from vitpareto.search.compress import deliverable, transforms
from vitpareto.search.compress.applied import load
from vitpareto.search.compress.contract import TransformContract
from vitpareto.search.compress.network import compressed, compressible
from vitpareto.search.compress.quantize import Grid
from vitpareto.search.compress.rewrites import REWRITES
from vitpareto.search.compress.sparsity import follows_n_m
from vitpareto.spaces import Policy
from vitpareto.spaces.errors import ConfigError, UnknownNameError
from vitpareto.spaces.transforms import TRANSFORMS, Transform, policy_transforms

from .helpers import architecture, candidate, random_network

needs_tensorly = pytest.mark.skipif(find_spec("tensorly") is None, reason="needs TensorLy")
PLUGIN = Path(__file__).parents[2] / "plugin"


class TestWeightBits(TransformContract):
    transform = TRANSFORMS["weight_bits"]


class TestActBits(TransformContract):
    transform = TRANSFORMS["act_bits"]
    beside = {"weight_bits": 8}  # noqa: RUF012


class TestWeightScales(TransformContract):
    transform = TRANSFORMS["weight_scales"]
    beside = {"weight_bits": 4}  # noqa: RUF012


class TestPruneRatio(TransformContract):
    transform = TRANSFORMS["prune_ratio"]


class TestSparsity(TransformContract):
    transform = TRANSFORMS["sparsity"]


class TestRankRatio(TransformContract):
    transform = TRANSFORMS["rank_ratio"]


class TestNM(TransformContract):
    transform = TRANSFORMS["n_m"]


class TestBlockSparsity(TransformContract):
    transform = TRANSFORMS["block_sparsity"]


@needs_tensorly
class TestTucker(TransformContract):
    transform = TRANSFORMS["tucker_ratio"]


@needs_tensorly
class TestCp(TransformContract):
    transform = TRANSFORMS["cp_ratio"]


def test_every_field_has_a_contract() -> None:
    tested = {contract.transform.name for contract in TransformContract.__subclasses__()}
    own = {name for name in policy_transforms() if name in TRANSFORMS._own}
    assert own <= tested


def test_all_are_listed() -> None:
    lines = transforms()
    assert len(lines) == len(TRANSFORMS)
    assert "sparsity: 0 to 0.99; share of zero weights" in lines
    assert all(load(t) for t in TRANSFORMS.values() if t.apply)


def test_a_function_that_is_not_there() -> None:
    for apply in ("no_such_package.x:y", ".sparsity:nothing", ""):
        with pytest.raises(ConfigError, match="transform 'lost': cannot load its function"):
            load(Transform("lost", 0.0, "lost", apply=apply))
    with pytest.raises(UnknownNameError, match=r"'sparsty'.*'sparsity'"):
        Policy(sparsty=0.5)


def test_a_pattern_is_in_every_layer() -> None:
    chosen = candidate(architecture(), Policy(n_m="2:4"))
    network = random_network(chosen.architecture)
    layers = compressible(network, chosen)
    weights = compressed(network.state_dict(), layers)
    assert all(follows_n_m(weights[f"{name}.weight"], 2, 4) for name in layers)


def test_transforms_follow_each_other() -> None:
    """Both factors of a matrix have the zeros of a pattern and the values of a grid."""
    chosen = candidate(architecture(), Policy(4, rank_ratio=0.25, n_m="1:4", sparsity=0.5))
    network = random_network(chosen.architecture)
    delivered = deliverable(network, chosen)
    pair = delivered.get_submodule("stages.0.blocks.0.mlp.fc1")
    assert [tuple(part.weight.shape) for part in pair] == [(8, 32), (64, 8)]
    assert all(follows_n_m(part.weight, 1, 4) for part in pair)
    assert delivered.compressed and not network.compressed
    plain = candidate(architecture(), Policy(4))
    with torch.no_grad():
        wanted = compressed(delivered.state_dict(), compressible(delivered, plain))
        found = compressed(delivered.state_dict(), compressible(delivered, chosen))
    assert all(found[name].equal(wanted[name]) for name in wanted), "only rounding is left"


# What artifacts do not follow yet.


def test_grids() -> None:
    zero = load(TRANSFORMS["weight_zero"])
    assert zero(Grid(8), False) == Grid(8) and not zero(Grid(8), True).symmetric


def test_rewrites() -> None:
    assert set(TRANSFORMS["rewrite"].values) == {"", *REWRITES}
    network, rewrite = random_network(architecture(act="hardswish")), load(TRANSFORMS["rewrite"])
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert rewrite(network, "") is network
    with torch.no_grad():
        assert rewrite(network, "hardswish_to_relu6")(x).allclose(network(x), atol=1e-5)


# A plugin's transform, in a process of its own: nothing in the product knows its name.

PROGRAM = """
import torch
from vitpareto_example.ternary import TERNARY  # before anything of ours: no circle
from vitpareto.search.compress import candidate_at, deliverable, run, transforms
from vitpareto.search.compress.contract import TransformContract
from vitpareto.search.delivery.decompression import steps_back
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.networks import Network
from vitpareto.spaces.supernet import Supernet

space = SearchSpace.from_text(SPACE)
drawn = space.sample(20)
assert {p.ternary for c in drawn for p in c.compression.stages[0].mlp} == {True, False}
assert all(Candidate.from_json(c.to_json()) == c and space.contains(c) for c in drawn)
chosen = space.candidate({"stages.0.ternary": True, "head_ternary": True})
assert '"ternary":true' in chosen.to_json()

network, x = Network(chosen.architecture).eval(), torch.randn(2, 1, 16, 16)
params = dict(network.named_parameters())
exact = network(x)
compressed = run(network, params, chosen, x)
assert not compressed.allclose(exact, rtol=1e-2)
compressed.sum().backward()
assert params["stages.0.blocks.0.mlp.fc1.weight"].grad.any()
with torch.no_grad():
    assert deliverable(network, chosen)(x).allclose(compressed, atol=1e-4)
    ramp = [run(network, params, candidate_at(chosen, p, 0.5), x) for p in (0.0, 0.2, 0.3, 1.0)]
assert ramp[0].equal(exact) and ramp[1].equal(exact)
assert ramp[2].equal(ramp[3]) and ramp[3].equal(compressed)

steps = steps_back(chosen)
assert str(steps[-1]) == "head: ternary True to False"
while steps:
    chosen, steps = steps[0].apply(chosen), steps_back(steps[0].apply(chosen))
assert chosen == Candidate.uncompressed(chosen.architecture)
assert "ternary: False, True; weights of an output channel are -s, 0 or s" in transforms()

class Contract(TransformContract):
    transform = TERNARY

for name in dir(Contract):
    if name.startswith("test_"):
        getattr(Contract(), name)()
"""
SPACE = """
name: ternary
input_size: 16
in_chans: 1
num_classes: 10
patch_size: 4
global_pool: avg
head_ternary: [false, true]
stages:
  - {depth: 2, width: 32, num_heads: 4, mlp_ratio: 2.0, ternary: [false, true]}
"""


def test_a_plugin_adds_one(tmp_path: Path) -> None:
    about = tmp_path / "vitpareto_example-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vitpareto-example\nVersion: 1\n")
    entry = "[vitpareto.transforms]\nternary = vitpareto_example.ternary:TERNARY\n"
    (about / "entry_points.txt").write_text(entry)
    (tmp_path / "program.py").write_text(f"SPACE = {SPACE!r}\n{PROGRAM}")
    paths = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(PLUGIN)!r}]; import program"
    done = subprocess.run([sys.executable, "-c", paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
