"""Build: a candidate made ready for a runtime; each part is made once, on first use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate
from ...spaces.networks import Network
from ...spaces.networks.parts import EveryExit
from ..compress import calibrate, compensated, deliverable, run_batches
from ..compress.network import UNCALIBRATED, Calibration, compressible, run_each
from ..data.dataset import Split
from ..training.forward import BATCH


@dataclass(frozen=True, eq=False)
class Build:
    """A candidate made ready for a runtime.

    Attributes:
        candidate: whose compression is applied.
        network: plain, with trained weights, which must not change any more.
        recipes: by which the runtime runs each precision.
        images: train images (N, C, S, S) at the candidate's size, for calibration.
        compensate: whether norms and biases are corrected for rounding; see
            `compress.compensated`.
    """

    candidate: Candidate
    network: Network
    recipes: Book | Sequence[str]
    images: Tensor
    compensate: bool = False

    @cached_property
    def ready(self) -> Network:
        """Folded and factored copy of the network, whose graph is exported.

        Raises:
            CostError: a precision that the device cannot run.
        """
        network = deliverable(self.network, self.candidate).eval()
        if not self.compensate:
            return network
        return compensated(network, self.candidate, self.recipes, self.images)

    @cached_property
    def acts(self) -> frozenset[str]:
        """Ways in which activations are rounded, see `Scheme.acts`.

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
        """Ranges of activations on the images; none where no range is static."""
        if "static" not in self.acts:
            return UNCALIBRATED
        params = self.ready.state_dict()
        return calibrate(self.ready, params, self.candidate, self.images, self.recipes)

    @torch.no_grad()
    def logits(self, split: Split) -> Tensor:
        """Logits that torch expects of the whole network, with the same rounding: (N, K).

        Raises:
            CostError: a precision that the device cannot run.
        """
        batches = split.batches(BATCH, self.candidate.architecture.input_size)
        params = self.ready.state_dict()
        return run_batches(self.ready, params, self.candidate, batches, self.recipes, self.seen)

    @torch.no_grad()
    def every_logits(self, split: Split) -> Tensor:
        """The same of every exit, and of the whole network last: (E, N, K).

        Raises:
            CostError: a precision that the device cannot run.
        """
        network = EveryExit.of(self.ready)
        batches = split.batches(BATCH, self.candidate.architecture.input_size)
        layers = compressible(network, self.candidate, self.recipes)
        params = network.state_dict()
        return torch.cat([*run_each(network, params, layers, batches, self.seen)], 1)
