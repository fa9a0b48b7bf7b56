import pytest
import torch
from torch import nn

from vitpareto.search.compress.rewrites import REWRITES
from vitpareto.spaces import Architecture, Block, SpaceError, Stage
from vitpareto.spaces.networks import Network
from vitpareto.spaces.networks.norms import RmsNorm

from .conftest import Trained
from .helpers import architecture, images, random_network, relative

ATTENTION = {"num_heads": 4, "head_dim": 8, "mlp_hidden": 64}
HIERARCHY = Architecture(
    (Stage(32, (Block(**ATTENTION),)), Stage(48, (Block(**ATTENTION),), "merge")),
    *(32, 3, 10),
    patch_size=4,
    global_pool="avg",
)
CASES = {
    "layer_to_rms": [
        architecture(global_pool="token"),
        architecture(global_pool="distill", layer_scale=True),
        architecture(Block("pooled", **ATTENTION, kv_pool=2), Block(**ATTENTION, token_keep=0.5)),
        architecture(stem="conv", pos_embed="none"),
        architecture(
            Block("window", **ATTENTION, window_size=2),
            Block("linear", **ATTENTION, kernel_size=3),
            Block("grouped", **ATTENTION, kv_heads=2),
        ),
    ],
    "group_to_instance": [
        architecture(Block(**ATTENTION), norm="group"),
        architecture(Block("pool", mlp_hidden=64), Block(**ATTENTION), norm="group"),
        architecture(Block("pool", mlp_hidden=64), Block(**ATTENTION), norm="group1"),
    ],
    "hardswish_to_relu6": [
        architecture(act="hardswish"),
        architecture(stem="conv", act="hardswish"),
    ],
}
GONE = {"layer": nn.LayerNorm, "group": nn.GroupNorm, "hardswish": nn.Hardswish}
PAIRS = [(name, a) for name, found in CASES.items() for a in found]


@pytest.mark.parametrize(("name", "a"), PAIRS)
def test_exact_rewrites_and_what_the_naive_swap_costs(name: str, a: Architecture) -> None:
    network, x = random_network(a), images(a)
    exact, naive = REWRITES[name], REWRITES[f"{name}_naive"]
    assert exact.exact
    assert not naive.exact
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        logits = network(x)
        assert relative(exact.apply(network)(x), logits) < 1e-5
        assert relative(naive.apply(network)(x), logits) > 0.01
        assert network(x).equal(logits)
    assert all(value.equal(state[key]) for key, value in network.state_dict().items())
    kind = GONE[name.partition("_to_")[0]]
    assert any(isinstance(m, kind) for m in network.modules())
    assert not any(isinstance(m, kind) for m in exact.apply(network).modules())


@pytest.mark.parametrize(
    ("a", "why"),
    [
        (architecture(norm="rms"), "needs norm 'layer'"),
        (architecture(stem_norm=True), "after the stem"),
        (architecture(post_norm=True), "after mixers and MLPs"),
        (HIERARCHY, "downsampling"),
        (architecture(Block("pool", mlp_hidden=64)), "mixer 'pool'"),
        (architecture(Block("token_mlp", token_hidden=8, mlp_hidden=64)), "mixer 'token_mlp'"),
        (architecture(Block("window", **ATTENTION, window_size=3)), "pads its windows"),
    ],
)
def test_streams_that_cannot_be_centered_are_refused(a: Architecture, why: str) -> None:
    with pytest.raises(SpaceError, match=why):
        REWRITES["layer_to_rms"].apply(Network(a))


def test_accuracy_of_a_trained_network(trained: Trained) -> None:
    exact = REWRITES["layer_to_rms"].apply(trained.network)
    assert trained.accuracy(exact) == trained.accuracy(trained.network)
    assert sum(isinstance(m, RmsNorm) for m in exact.modules()) == 5
