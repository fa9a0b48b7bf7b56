"""What a device cannot execute is found before anything is measured, and is in no space."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.measure.capabilities import examples
from vitpareto.cost_models.measure.runnable import left_out, refused, runnable
from vitpareto.spaces import Policy, SearchSpace
from vitpareto.spaces.errors import CostError

from ...shared import needs_runtime

pytestmark = pytest.mark.onnx
SPACE = """
name: parts
in_chans: 1
num_classes: 4
input_size: 16
patch_size: 4
global_pool: avg
norm: [layer, rms]
act: [gelu, silu]
stages:
  - depth: [1, 2]
    width: 16
    head_dim: 8
    num_heads: 2
    window_size: 2
    token_keep: [1.0, 0.5]
    token_keep_at: ["0", "1"]
    weight_bits: [32, 8, 4]
    act_bits: 8
    blocks:
      mixer: [softmax, linear, window, pool]
      mlp_ratio: [1.0, 2.0]
"""


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace.from_text(SPACE)


@pytest.fixture
def litert(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """LiteRT as it would be without some operators."""
    needs_runtime("litert")
    from vitpareto.cost_models.tflite import operators

    for name in ("Sigmoid", "TopK", "AveragePool"):
        monkeypatch.delitem(operators.OPERATORS, name, raising=False)
    refused.cache_clear()
    yield replace(Device.load("cpu-litert"), name="poor")
    refused.cache_clear()


@pytest.mark.parametrize("runtime", ["cpu-1t", "cpu-litert", "cpu-ncnn", "cpu-openvino"])
def test_a_space_of_which_everything_runs_stays_as_it_is(runtime: str) -> None:
    device = Device.load(runtime)
    needs_runtime(device.runtime)
    whole = SearchSpace.from_text(SPACE.replace("[32, 8, 4]", "[32, 8]"))
    left, refusals = runnable(device, whole)
    assert left is whole and refusals == [] and left_out(device, refusals) == ""


def test_bits_that_ncnn_has_not(space: SearchSpace) -> None:
    needs_runtime("ncnn")
    left, refusals = runnable(Device.load("cpu-ncnn"), space)
    assert {refusal.choice for refusal in refusals} == {"weight_bits 4"}
    policies = {b.policy for c in left.sample(100) for b in workload(c).sub_blocks}
    assert {policy.weight_bits for policy in policies} == {32, 8}


def test_bits_that_no_recipe_holds(space: SearchSpace) -> None:
    device = Device.load("torch-1t")
    left, refusals = runnable(device, space)
    assert {refusal.choice for refusal in refusals} == {"weight_bits 8", "weight_bits 4"}
    blocks = {b for c in left.sample(100) for b in workload(c).sub_blocks}
    assert {block.policy.weight_bits for block in blocks} == {32}
    line = left_out(device, refusals)
    assert line.startswith("space: torch-1t cannot execute, and so is left out: weight_bits ")
    assert "no recipe of this device holds 8-bit weights" in line and "\n" not in line


def test_scales_that_no_kernel_has() -> None:
    """Blocks are for 4 bits alone, which only the two together tell."""
    text = SPACE.replace("act_bits: 8", "act_bits: 8\n    weight_scales: [channel, block64]")
    left, refusals = runnable(Device.load("cpu-1t"), SearchSpace.from_text(text))
    assert {refusal.choice for refusal in refusals} == {"weight_bits 8 with weight_scales block64"}
    policies = {b.policy for c in left.sample(100) for b in workload(c).sub_blocks}
    scales = {(p.weight_bits, p.weight_scales) for p in policies if p.weight_bits < 32}
    assert scales == {(8, "channel"), (4, "channel"), (4, "block64")}


@pytest.mark.parametrize("kind", ["head", "stem patch"])
def test_openvino_answers_as_onnx_runtime_with_one_scale_a_tensor(kind: str) -> None:
    needs_runtime("openvino")
    assert not refused(Device.load("cpu-openvino"), examples()[kind], "static8_tensor")


def test_operators_that_a_runtime_has_not(litert: Device, space: SearchSpace) -> None:
    left, refusals = runnable(litert, space)
    told = left_out(litert, refusals)
    assert {refusal.choice for refusal in refusals} == {
        "act silu",
        "mixer pool",
        "token_keep 0.5",
    }
    assert "operator Sigmoid has no conversion" in told and "operator TopK" in told
    for candidate in left.sample(20):
        for block in workload(candidate).sub_blocks:
            assert not refused(litert, replace(block, policy=Policy()), "float")
    assert left.size < space.size


def test_a_space_of_which_nothing_is_left(litert: Device) -> None:
    """Named are operator and block, and the nearest choice that works."""
    only = SearchSpace.from_text(SPACE.replace("act: [gelu, silu]", "act: silu"))
    expected = r"device 'poor' cannot execute mlp mlp \(.*operator Sigmoid.*that it can: act "
    with pytest.raises(CostError, match=expected):
        runnable(litert, only)
