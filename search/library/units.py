"""Units: heads and hidden units in the order of what the start loses without them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ..compress.importance import taylor, unit_scores
from ..data.dataset import resized
from .start import CHUNK, Start, network_with


def units_by_importance(start: Start) -> dict[str, Tensor]:
    """Heads and hidden units of every block, the most important first, by "MODULE AXIS".

    Importance is first-order (Taylor) on labels that the start itself draws, so that images need
    none; where it is sure and right, they are the true ones.
    """
    network = network_with(start.architecture, start.weights).requires_grad_()

    def losses() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = resized(start.images, start.architecture.input_size)
        for part in images.split(CHUNK):
            logits = network(part)
            drawn = logits.detach().softmax(1).multinomial(1, generator=generator)[:, 0]
            yield F.cross_entropy(logits, drawn, reduction="sum")

    with torch.enable_grad():
        scores = taylor(dict(network.named_parameters()), losses())
    return {
        f"{units.module} {units.axis}": values.argsort(descending=True, stable=True)
        for units, values in unit_scores(network, scores).items()
    }
