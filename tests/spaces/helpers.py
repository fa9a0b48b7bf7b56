"""What several tests of spaces need."""

import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from tempfile import NamedTemporaryFile
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from vitpareto.spaces import Architecture, Block, Candidate, Place, Stage
from vitpareto.spaces.mixers import canonical
from vitpareto.spaces.networks import Network


def randomize(state: Mapping[str, Tensor], seed: int = 0) -> None:
    """Fill weights and running statistics in place, keeping activations of size one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim == 1 or "norm" in name or "running" in name:
            low, high = (-0.5, 0.5) if name.endswith(("bias", "mean")) else (0.5, 1.5)
            tensor.uniform_(low, high, generator=generator)
        else:
            tensor.normal_(0, (tensor.numel() / tensor.shape[0]) ** -0.5, generator=generator)


def randomized(architecture: Architecture, seed: int = 0) -> Network:
    """A network in evaluation mode, none of whose weights is at its initial value."""
    network = Network(architecture).eval()
    randomize(network.state_dict(), seed)
    return network


def images(given: Candidate | Architecture, n: int = 2, seed: int = 0) -> Tensor:
    """Random images (n, in_chans, S, S) of the size that a network takes."""
    a = given.architecture if isinstance(given, Candidate) else given
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, a.in_chans, a.input_size, a.input_size, generator=generator)


# A value for every number of a mixer beside its heads, on grids that squares do not divide.
NUMBERS = {
    **{"kv_heads": 1, "kv_pool": 2, "window_size": 3, "kernel_size": 5, "token_hidden": 12},
    **{"kv_tokens": 6, "num_features": 10, "band": 5, "halo": 1, "focal_levels": 2},
    **{"global_tokens": 3, "unfold_size": 1, "num_groups": 3, "key_dim": 4, "se_hidden": 8},
    **{"inner_width": 16, "inner_heads": 2, "inner_layers": 2, "value_dim": 12},
    **{"attn_stride": 1, "kernel_step": 2},
    "res_scale": True,
}


def place(prefix: int = 0, grid: int = 6, width: int = 24, keep: int = 0, **block: Any) -> Place:
    """A block's place with small numbers."""
    settings = {"mixer": "softmax", "num_heads": 3, "head_dim": 8, **block}
    tokens = grid * grid
    return Place(canonical(Block(**settings)), width, (grid, grid), prefix, tokens, keep or tokens)


def small(*blocks: Block, **fields: Any) -> Architecture:
    """A network of one stage on an 8x8 grid."""
    settings = {"input_size": 32, "patch_size": 4, "num_classes": 5, "global_pool": "avg"}
    return Architecture((Stage(24, blocks),), **settings | fields)


def mobile(**fields: Any) -> Architecture:
    """A tiny network whose stages are led to in all the ways of MobileNets."""
    nothing, block = Block("identity2d"), Block("mbconv", mlp_hidden=24, kernel_size=3, se_hidden=8)
    stages = (
        Stage(8, (nothing,)),
        Stage(8, (nothing,), "inverted", act="relu", downsample_se=8),
        Stage(16, (block,), "inverted", 2, "relu", 24, 5),
        Stage(24, (block, block), "inverted", 1, "", 48, 3, 16),
        Stage(24, (block,), "conv", 1),
        Stage(32, (nothing,), "pointwise", 1),
    )
    settings = {"input_size": 32, "patch_size": 2, "num_classes": 5, "global_pool": "avg"}
    settings |= {"stem": "mobile", "act": "hardswish", "pos_embed": "none", "head_hidden": 40}
    return Architecture(stages, **settings | {"final_norm": "none"} | fields)


def efficient(**fields: Any) -> Architecture:
    """A tiny network with all parts of both EfficientViTs, whose odd grids are halved."""
    convolution = {"mlp_hidden": 24, "kernel_size": 3}
    window = {"num_groups": 2, "key_dim": 4, "kernel_size": 3, "window_size": 3}
    stages = (
        Stage(8, (Block("separable", kernel_size=3),)),
        Stage(16, (Block("mbconv_bias", **convolution),), "inverted_bias", 2, "", 24, 3, 8),
        Stage(
            *(24, (Block("cascaded_window", **window), Block("conv_mlp", mlp_hidden=40))),
            *("inverted_bias", 1, "relu", 0, 5),
        ),
        Stage(32, (Block("depthwise_residual", kernel_size=3),), "inverted", 2, "", 40, 3, 16),
    )
    settings = {"input_size": 28, "patch_size": 4, "num_classes": 5, "global_pool": "avg"}
    settings |= {"stem": "mobile", "act": "hardswish", "pos_embed": "relative", "head_hidden": 40}
    settings |= {"head_norm": True, "se_gate": "sigmoid", "final_norm": "none"}
    return Architecture(stages, **settings | fields)


def levit(**fields: Any) -> Architecture:
    """A tiny network whose attention halves grids of 7x7 and 4x4, with two heads."""
    mix = Block("levit", num_heads=2, head_dim=4, value_dim=8)
    feed = Block("normed_mlp", mlp_hidden=24)
    stages = (
        Stage(16, (mix, feed)),
        Stage(24, (feed, mix, feed), "attention", downsample_head_dim=8),
        Stage(32, (feed,), "attention", downsample_head_dim=12),
    )
    settings = {"input_size": 28, "patch_size": 4, "num_classes": 5, "global_pool": "avg_distill"}
    settings |= {"stem": "convs", "act": "hardswish", "pos_embed": "none", "norm": "batch"}
    return Architecture(stages, **settings | {"final_norm": "pooled"} | fields)


def makes(name: str, **settings: Any) -> Callable[[], nn.Module]:
    """Makes a model of timm with random weights."""

    def make() -> nn.Module:
        import timm  # whoever needs no foreign models does not wait for it

        return timm.create_model(name, pretrained=False, **settings)

    return make


def difference(left: Tensor, right: Tensor) -> float:
    """Largest absolute difference."""
    assert left.shape == right.shape
    return (left - right).abs().max().item()


def to_onnx(network: nn.Module, x: Tensor, dynamo: bool = False) -> onnx.ModelProto:
    """Export with static shapes; the fast exporter unless asked otherwise."""
    if dynamo:
        program = torch.onnx.export(network, (x,), dynamo=True, opset_version=20, verbose=False)
        assert program is not None
        return program.model_proto
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and traces Python numbers on purpose
        torch.onnx.export(network, (x,), buffer, dynamo=False, opset_version=17)
    return onnx.load_from_string(buffer.getvalue())


def run_onnx(model: onnx.ModelProto, x: Tensor) -> tuple[Tensor, set[str]]:
    """Logits of ONNX Runtime on one thread, and the kinds of operators that it executed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns that an optimized graph is for this machine only
    with NamedTemporaryFile(suffix=".onnx") as optimized:
        options.optimized_model_filepath = optimized.name
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        executed = {node.op_type for node in onnx.load(optimized.name).graph.node}
    [logits] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(logits), executed
