import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from vitpareto.search.compress import run
from vitpareto.search.compress.network import compressible
from vitpareto.search.compress.quantise import quantise_activation, quantise_weight
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.networks import Network


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3)])
def test_weights_lie_on_a_symmetric_grid_of_each_channel(bits: int, shape: tuple[int, ...]) -> None:
    weight = normal(*shape)
    rounded = quantise_weight(weight, bits)
    for channel, exact in zip(rounded, weight, strict=True):
        step = exact.abs().max() / (2 ** (bits - 1) - 1)
        levels = channel / step
        assert torch.allclose(levels, levels.round(), atol=1e-4)
        assert (channel - exact).abs().max() <= step / 2 * 1.0001
    assert quantise_weight(rounded, bits).allclose(rounded)


def test_more_bits_are_closer() -> None:
    weight = normal(16, 64)
    errors = [(quantise_weight(weight, bits) - weight).abs().mean() for bits in (2, 4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


def test_a_channel_of_zeros_stays_zero() -> None:
    assert quantise_weight(torch.zeros(3, 4), 8).equal(torch.zeros(3, 4))
    assert quantise_activation(torch.zeros(3, 4), 8).equal(torch.zeros(3, 4))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_activations_are_those_of_dynamic_quantize_linear(seed: int, shift: float) -> None:
    x = normal(1, 6, 16, seed=seed) + shift
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"])
    back = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"])
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    graph = helper.make_graph([node, back], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(quantise_activation(x, 8).numpy(), wanted, atol=1e-6)


def test_each_image_has_its_own_range() -> None:
    x = normal(4, 6, 16) * torch.tensor([1.0, 10, 100, 1000]).view(4, 1, 1)
    alone = torch.cat([quantise_activation(image[None], 8) for image in x])
    assert quantise_activation(x, 8).equal(alone)


@pytest.mark.parametrize("quantise", [quantise_weight, quantise_activation])
def test_gradient_passes_straight_through(quantise) -> None:
    x = normal(3, 8).requires_grad_()
    quantise(x, 4).sum().backward()
    assert x.grad is not None
    assert x.grad.equal(torch.ones(3, 8))


def test_uncompressed_candidates_run_as_plain_networks(space: SearchSpace) -> None:
    candidate = space.largest()
    network = Network(candidate.architecture).eval()
    images = normal(3, 1, 32, 32)
    logits = run(network, network.state_dict(), candidate, images)
    assert logits.equal(network(images))


def test_only_layers_with_integer_bits_change_and_no_hook_stays(space: SearchSpace) -> None:
    candidate = next(c for c in space.sample(20) if c.compression.stages[0].mlp[0].weight_bits == 8)
    network = Network(candidate.architecture).eval()
    images = normal(3, 1, 32, 32)
    before = network(images)
    assert not run(network, network.state_dict(), candidate, images).allclose(before, atol=1e-7)
    assert network(images).equal(before)
    bits = {name: policy.weight_bits for name, _, policy in compressible(network, candidate)}
    assert bits["patch_embed.proj"] == bits["head"] == 32
    assert {b for name, b in bits.items() if name.startswith("stages")} == {8}


def test_what_is_not_applied_is_refused(space: SearchSpace) -> None:
    sparse = SearchSpace(space.spec | {"sparsity": 0.5})
    candidate = sparse.largest()
    network = Network(candidate.architecture)
    with pytest.raises(RunError, match="take them out of the space"):
        run(network, network.state_dict(), candidate, normal(1, 1, 32, 32))
