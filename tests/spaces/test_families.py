"""Presets of families: the network that gives each its name is a member, and others run."""

import re

import pytest
import timm
import torch

from vitpareto.cost_models import workload
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.convert import converter_of
from vitpareto.spaces.networks.branches import unbranch
from vitpareto.spaces.space import PRESETS

from ..shared import FAMILIES
from .helpers import difference, images, randomized, run_onnx, to_onnx

NAMESAKES = {
    "deit_tiny": "deit_tiny_patch16_224",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "mixer": "mixer_s16_224",
    "mobilenet_hybrid": "mobilenetv3_small_100",
    "mobilevit": "mobilevit_xxs",
    "poolformer": "poolformer_s12",
    "swin": "swin_tiny_patch4_window7_224",
    "tinyvit": "tiny_vit_5m_224",
}
STARTS = ("efficientformer", "efficientformer_v2", "poolformer")  # largest where they are members
# Parameters that others take in: biases before batch norms.
TAKEN_IN = {
    "efficientformer": r"(stem\.conv\d|downsample\.conv)\.bias|"
    r"stages\.([0-2]\.blocks\.\d|3\.blocks\.[0-2])\.mlp\.fc\d\.bias",
    "efficientformer_v2": r"(conv|local)\.bias",
}


@pytest.mark.parametrize("name", NAMESAKES)
def test_the_namesake_is_a_member(name: str) -> None:
    """Converted without its weights, which take long to draw and tell nothing here."""
    with torch.device("meta"):
        model = timm.create_model(NAMESAKES[name], num_classes=1000)
        architecture = converter_of(model)(model).architecture
    candidate = Candidate.uncompressed(architecture)
    space = SearchSpace.from_yaml(name)
    assert candidate in space
    assert name not in STARTS or candidate == space.largest()
    taken_in = re.compile(TAKEN_IN.get(name, "$^"))
    kept = [p for path, p in model.named_parameters() if not taken_in.search(path)]
    assert workload(candidate).params == sum(p.numel() for p in kept)


def test_what_no_package_has_is_as_large_as_it_is_said_to_be() -> None:
    lightvit, litevit = (SearchSpace.from_yaml(n).largest() for n in ("lightvit", "litevit"))
    assert abs(workload(lightvit).params / 9.4e6 - 1) < 0.02
    assert {block.mixer for block in lightvit.architecture.blocks()} == {"aggregate"}
    assert workload(litevit).params < 4e6
    tried = [c.architecture.blocks() for c in SearchSpace.from_yaml("litevit").sample(20)]
    blocks = [block for some in tried for block in some]
    assert any(block.token_keep < 1 for block in blocks)
    assert any(block.mixer == "banded" for block in blocks)


def test_some_preset_searches_what_a_network_can_be_said_to_have() -> None:
    searched: dict[str, set[object]] = {}
    for path in PRESETS.glob("*.yaml"):
        for choice in SearchSpace.from_yaml(path.stem).parameters:
            searched.setdefault(choice.name.rpartition(".")[2], set()).update(choice.values)
    assert searched["norm"] >= {"layer", "rms", "group", "group1"}
    bits = {f"{part}_weight_bits" for part in ("stem", "downsample", "mixer", "mlp", "head")}
    others = {"input_size", "patch_size", "rank_ratio", "sparsity", "token_keep", "reparam"}
    assert all(len(searched[name]) > 1 for name in bits | others)


@pytest.mark.onnx
@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((name, 1) for name in ("litevit", "mixer", "poolformer")),
        *(pytest.param(name, 50, marks=pytest.mark.slow) for name in FAMILIES),
    ],
)
def test_candidates_run_in_onnx_runtime(name: str, count: int) -> None:
    """Random ones, or the cheapest of some; of these the default tests have time for one."""
    drawn = SearchSpace.from_yaml(name).sample(max(count, 10), seed=1)
    for candidate in sorted(drawn, key=lambda c: workload(c).macs)[:count]:
        network, x = randomized(candidate.architecture), images(candidate, 1)
        with torch.no_grad():
            expected = network(x)
        unbranch(network)
        logits, _ = run_onnx(to_onnx(network, x), x)
        assert difference(logits, expected) < 1e-4 * max(1.0, float(expected.abs().max()))
