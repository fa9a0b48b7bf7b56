"""Forward: the answer of a network to a batch, with all that a loss looks at."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping

import torch
from torch import Tensor, nn

from ...spaces import Candidate
from ...spaces.networks import Network
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.network import to_tokens
from ...spaces.supernet import Supernet, blueprint
from ..compress import run_batches
from ..compress.network import Layers, compressible, run_layers
from ..data.dataset import Split, resized
from .losses import Answer, Streams
from .optimizer import fast_matmul

BATCH = 256  # images at once


def ask(supernet: Supernet, candidate: Candidate, images: Tensor) -> Answer:
    """Answer of a candidate with inherited weights in training mode, compression applied."""
    network, _ = blueprint(candidate.architecture)
    params = on_device(network, supernet.inherit(candidate), supernet.params["head.weight"].device)
    return answer(network.train(), params, compressible(network, candidate), images)


def on_device(
    network: Network, params: Mapping[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """Parameters and buffers on a device, with the constants that a blueprint keeps on the CPU."""
    constants = {name: b for name, b in network.named_buffers() if not b.is_meta}
    return {name: value.to(device) for name, value in (constants | {**params}).items()}


def answer(
    network: Network,
    params: Mapping[str, Tensor],
    layers: Layers,
    images: Tensor,
    inside: bool = False,
) -> Answer:
    """Answer of a network in float32 with these parameters, compression applied.

    Args:
        network: of the candidate's architecture, in the mode that is wanted.
        params: its parameters and buffers by name, on the device that computes.
        layers: from `compressible`.
        images: (B, C, S, S) at any size.
        inside: whether to tell what each block leaves, too, which takes memory.
    """
    a = network.architecture
    images = resized(images.to(next(iter(params.values())).device), a.input_size)
    with fast_matmul(images.device), _listening(network, inside) as heard:
        run_layers(network, params, layers, [images])
    logits = tuple(heard[name].float() for name in ("head", "head_dist") if name in heard)
    tokens = heard["norm"][:, a.prefix :]
    if not inside:
        return Answer(logits, tokens)
    left = [
        [_as_tokens(heard[f"stages.{i}.blocks.{j}"]) for j in range(len(stage.blocks))]
        for i, stage in enumerate(a.stages)
    ]
    return Answer(logits, tokens, Streams(a, left))


def _as_tokens(x: Tensor) -> Tensor:
    """What a block leaves, tokens or a grid, as tokens (B, N, C)."""
    return to_tokens(x) if x.ndim == 4 else x


@contextlib.contextmanager
def _listening(network: Network, inside: bool) -> Generator[dict[str, Tensor]]:
    """Outputs of the last norm and the heads, by name, recorded while the context lasts.

    And those of all blocks, if `inside`.
    """
    heard: dict[str, Tensor] = {}

    def hook(name: str):
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            heard[name] = output

        return keep

    modules = {name: getattr(network, name) for name in ("norm", "head", "head_dist")}
    for name, module in network.stages.named_modules(prefix="stages"):
        if inside and isinstance(module, ResidualBlock):
            modules[name] = module
    handles = [m.register_forward_hook(hook(n)) for n, m in modules.items() if m is not None]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def predict(candidate: Candidate, network: Network, split: Split) -> Tensor:
    """Logits of a network with weights of its own, compression applied: (N, K)."""
    params, network = network.state_dict(), network.eval()
    device = next(network.parameters()).device
    images = split.batches(BATCH, candidate.architecture.input_size)
    batches = (batch.to(device) for batch in images)
    return run_batches(network, params, candidate, batches).cpu()
