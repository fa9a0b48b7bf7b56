"""Patches: a start learns to see in every patch size of its space, as FlexiViT does.

A network that has only ever seen patches of one size is broken by others, and the few passes that
finish a candidate then go into mending that. So each step of an adaptation also looks through
another patch size of the space: the kernels are resized and the positions interpolated as they are
for candidates, and the gradients go through both into the one network (Beyer et al.,
arXiv:2212.08013).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.func import functional_call

from ...spaces.networks import Network
from ...spaces.networks.refit import emptied, resized_state
from ..data.dataset import resized


class Patches:
    """A network in training, seen through the patch sizes that are not its own.

    Args:
        network: whose weights are shared.
        sizes: of patches in pixels; its own is left out.
    """

    def __init__(self, network: Network, sizes: Sequence[int]) -> None:
        self._network = network
        own = network.architecture.patch_size
        self._shells = [emptied(network, patch_size=size) for size in sizes if size != own]

    def logits(self, images: Tensor, step: int) -> list[Tensor]:
        """Answers (B, K) through the network's own patches, and through others in turn.

        Args:
            images: (B, in_chans, S, S).
            step: of the training; each takes the next size.
        """
        images = resized(images, self._network.architecture.input_size)
        found = [self._network.train()(images)]
        if self._shells:
            shell = self._shells[step % len(self._shells)].train()
            found.append(functional_call(shell, resized_state(self._network, shell), (images,)))
        return found
