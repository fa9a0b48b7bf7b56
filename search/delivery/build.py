"""Build: a candidate made ready for a runtime, each part of it made once, when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate
from ...spaces.networks import Network
from ..compress import calibrate, compensated, deliverable, run_batches
from ..compress.network import UNCALIBRATED, Calibration, compressible
from ..data.dataset import Split, resized
from ..training.forward import BATCH


@dataclass(frozen=True, eq=False)
class Build:
    """A candidate made ready for a runtime.

    Attributes:
        candidate: its compression is applied.
        network: plain, with trained weights, which must not change any more.
        recipes: what the runtime runs each precision with.
        images: train images (N, C, S, S) at the candidate's size, from which ranges are taken.
        compensate: whether norms and biases make up for what rounding shifts; see
            `compress.compensated`.
    """

    candidate: Candidate
    network: Network
    recipes: Book | Sequence[str]
    images: Tensor
    compensate: bool = False

    @cached_property
    def ready(self) -> Network:
        """A folded and factored copy, the one whose graph is exported.

        Raises:
            CostError: a precision that the device cannot run.
        """
        network = deliverable(self.network, self.candidate).eval()
        if not self.compensate:
            return network
        return compensated(network, self.candidate, self.recipes, self.images)

    @cached_property
    def acts(self) -> frozenset[str]:
        """All ways in which activations are rounded, see `Scheme.acts`.

        Raises:
            CostError: a precision that the device cannot run.
        """
        layers = compressible(self.ready, self.candidate, self.recipes)
        return frozenset(layer.scheme.acts for layer in layers.values())

    @property
    def exact(self) -> bool:
        """Whether everything is computed in float32."""
        return self.acts <= {"float"}

    @cached_property
    def seen(self) -> Calibration:
        """What the images say of activations; nothing where no range is fixed beforehand."""
        if "static" not in self.acts:
            return UNCALIBRATED
        return calibrate(self.ready, self.ready.state_dict(), self.candidate, self.images)

    @torch.no_grad()
    def logits(self, split: Split) -> Tensor:
        """What torch says the artifact will say, rounding for rounding: (N, K).

        Raises:
            CostError: a precision that the device cannot run.
        """
        batches = resized(split.images, self.candidate.architecture.input_size).split(BATCH)
        params = self.ready.state_dict()
        return run_batches(self.ready, params, self.candidate, batches, self.recipes, self.seen)
