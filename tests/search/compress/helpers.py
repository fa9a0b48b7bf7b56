"""What several tests of compression need."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from vitpareto.cost_models.units.precision_recipes import Book
from vitpareto.search.compress import calibrate, run
from vitpareto.spaces import Architecture, Block, Candidate, Policy, Stage
from vitpareto.spaces.compression import Compression, StagePolicy
from vitpareto.spaces.networks import Network


def architecture(*blocks: Block, **fields: Any) -> Architecture:
    """A network of one stage on a 4x4 grid."""
    blocks = blocks or (Block(num_heads=4, head_dim=8, mlp_hidden=64),) * 2
    settings = {"input_size": 16, "patch_size": 4, "num_classes": 10, "global_pool": "avg"}
    return Architecture((Stage(32, blocks),), **{"in_chans": 1} | settings | fields)


def candidate(a: Architecture, policy: Policy) -> Candidate:
    """The same policy everywhere."""
    stages = tuple(
        StagePolicy((policy,) * len(s.blocks), (policy,) * len(s.blocks), policy) for s in a.stages
    )
    return Candidate(a, Compression(stages, policy, policy))


def random_network(a: Architecture, seed: int = 0) -> Network:
    """A network in evaluation mode, none of whose weights is at its initial value."""
    network = Network(a).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        if value.ndim == 1 or "norm" in name:
            low, high = (-0.5, 0.5) if name.endswith(("bias", "mean")) else (0.5, 1.5)
            value.uniform_(low, high, generator=generator)
        else:
            value.normal_(0, (value.numel() / len(value)) ** -0.5, generator=generator)
    return network


def images(a: Architecture, n: int = 8, seed: int = 0) -> Tensor:
    """Random images (n, in_chans, S, S)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, a.in_chans, a.input_size, a.input_size, generator=generator)


def run_onnx(model: onnx.ModelProto, x: Tensor) -> Tensor:
    """Outputs of ONNX Runtime on one thread, image by image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    found = [session.run(None, {name: one.numpy()})[0] for one in x.split(1)]
    return torch.from_numpy(np.concatenate(found))


def delivered_logits(
    delivered: Network,
    chosen: Candidate,
    x: Tensor,
    recipes: Book | Sequence[str],
    seen: Tensor,
) -> Tensor:
    """What the artifact of a network from `deliverable` will say, rounding for rounding."""
    params = delivered.state_dict()
    calibration = calibrate(delivered, params, chosen, seen, recipes)
    return run(delivered, params, chosen, x, recipes, calibration)


def relative(found: Tensor, wanted: Tensor) -> float:
    """Size of the difference beside the size of what is wanted."""
    assert found.shape == wanted.shape
    return ((found - wanted).norm() / wanted.norm()).item()


def largest(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference."""
    assert found.shape == wanted.shape
    return (found - wanted).abs().max().item()


def changed(block: Block, **fields: Any) -> Block:
    return replace(block, **fields)
