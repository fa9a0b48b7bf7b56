"""Answer: what a network in training says of a batch, with all that a loss can look at."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping

from torch import Tensor, nn

from ..spaces import Candidate
from ..spaces.networks import Network
from ..spaces.supernet import Supernet, blueprint
from .compress import run
from .data import resized
from .losses import Answer
from .training import fast_matmul


def ask(supernet: Supernet, candidate: Candidate, images: Tensor) -> Answer:
    """What a candidate says with inherited weights in training mode, compression applied."""
    network, _ = blueprint(candidate.architecture)
    constants = {n: b.to(images.device) for n, b in network.named_buffers() if not b.is_meta}
    params = supernet.inherit(candidate) | constants
    return answer(network.train(), params, candidate, images)


def answer(
    network: Network, params: Mapping[str, Tensor], candidate: Candidate, images: Tensor
) -> Answer:
    """What a network says in float32 with these parameters, compression applied.

    Args:
        network: of the candidate's architecture, in the mode that is wanted.
        params: its parameters and buffers by name.
        candidate: its compression is applied.
        images: (B, C, S, S) at any size.
    """
    a = candidate.architecture
    images = resized(images, a.input_size)
    with fast_matmul(images.device), _listening(network) as heard:
        run(network, params, candidate, images)
    logits = tuple(heard[name].float() for name in ("head", "head_dist") if name in heard)
    return Answer(logits, heard["norm"][:, a.prefix :])


@contextlib.contextmanager
def _listening(network: Network) -> Generator[dict[str, Tensor]]:
    """What the last norm and the heads put out, by name, as long as the context lasts."""
    heard: dict[str, Tensor] = {}

    def hook(name: str):
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            heard[name] = output

        return keep

    modules = {name: getattr(network, name) for name in ("norm", "head", "head_dist")}
    handles = [m.register_forward_hook(hook(n)) for n, m in modules.items() if m is not None]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()
