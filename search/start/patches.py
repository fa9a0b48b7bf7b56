"""Patches: a start learns to see in every patch size of its space, as FlexiViT does.

A network that has seen patches of one size is broken by others, and the few passes that finish a
candidate then go into mending that. So each step of an adaptation looks through another patch size
as well: kernels are resized and positions interpolated as they are for candidates, and gradients go
through both into the one network (Beyer et al., arXiv:2212.08013).

Measured with a DeiT-Tiny on photos of ten classes at 96 pixels, six passes: through its own patches
of 16 pixels the start became no worse (80.3 instead of 79.1% of 517 images), and with nothing but
its patches changed it kept 73.7 instead of 58.8% with 24 pixels, and 72.1 instead of 38.5% with 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from torch import Tensor
from torch.func import functional_call

from ...cost_models import workload
from ...spaces import Architecture, Candidate, SearchSpace
from ...spaces.errors import SpaceError
from ...spaces.networks import Network
from ...spaces.networks.refit import emptied, resized_network, resized_state
from ..data.dataset import resized


def patch_sizes(space: SearchSpace) -> list[int]:
    """Patch sizes among which a space chooses, in pixels; none where it has only one."""
    return [int(v) for p in space.parameters if p.name == "patch_size" for v in p.values]


class Patches:
    """A network in training, seen through its own patches and those of other sizes.

    Sizes for which it has no weights, as where a mixer is bound to the number of tokens, are left
    out; so is its own.

    Args:
        network: that learns.
        sizes: of patches in pixels.
    """

    def __init__(self, network: Network, sizes: Sequence[int]) -> None:
        self._network, self._others = network, list[Network]()
        device = next(network.parameters()).device
        for size in sizes:
            if size != network.architecture.patch_size:
                with suppress(SpaceError):
                    other = emptied(network, patch_size=size).to(device)
                    resized_state(network, other)
                    self._others.append(other.train())

    def logits(self, images: Tensor, step: int) -> list[Tensor]:
        """Answers (B, K) through the network's own patches, and through others in turn.

        Args:
            images: (B, in_chans, S, S).
            step: of the training; each takes the next size.
        """
        images = resized(images, self._network.architecture.input_size)
        found = [self._network.train()(images)]
        if self._others:
            other = self._others[step % len(self._others)]
            found.append(functional_call(other, resized_state(self._network, other), (images,)))
        return found

    def networks(self) -> list[Network]:
        """The network, and with its weights of now one for each other size."""
        size, own = self._network.architecture.input_size, self._network
        others = (n.architecture.patch_size for n in self._others)
        return [own, *(resized_network(own, size, side) for side in others)]

    @property
    def looks(self) -> int:
        """Number of patch sizes that it is seen through."""
        return 1 + len(self._others)

    @property
    def work(self) -> float:
        """Work of a step, as a multiple of one through the network's own patches alone."""
        own, *others = (_macs(n.architecture) for n in (self._network, *self._others))
        return 1 + sum(others) / (own * len(others)) if others else 1.0


def _macs(architecture: Architecture) -> int:
    return workload(Candidate.uncompressed(architecture)).macs
