"""Assembled: candidates scored as repaired networks, by how far they are from the teacher.

On few classes many candidates are right on the same images; the divergence from the teacher still
tells them apart, and needs no labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ...cost_models.units.precision_recipes import Book
from ...spaces import Architecture, Candidate
from ...spaces.networks import Network
from ..compress import run_batches
from ..compress.network import DEFAULT_RECIPES
from ..data.dataset import Split
from ..library.divergence import divergence
from ..library.parts import Library
from ..library.repair import assemble
from ..library.start import CHUNK
from ..training.accuracy import LEAST, accuracy

# Images, and their tokens, on which candidates are repaired to be told apart. More would make them
# better, but not their order: over 40 candidates cut from a ViT of CIFAR-10 the divergence has a
# Kendall tau of 0.81 with their finished accuracy after repair on 48 images, of 0.81 on 512. All
# need the same ones: with more for those of fewer tokens it was 0.67.
GLANCE, GLANCE_TOKENS = 48, 6_000
# Images of the search split that tell candidates apart, at least and at most, and the start's
# tokens of them: over the same 40 candidates the tau is 0.81 on 64 or 256 images, 0.82 on 1,024.
LOOKED_AT, LOOKED_AT_TOKENS = (128, 1024), 32_768
KEPT = 32  # assembled networks in memory: those of one bracket of successive halving

Maker = Callable[[Library, Candidate, Book | Sequence[str]], Network]


class AssembledScorer:
    """Scores candidates that are assembled from a library.

    Args:
        library: of the start.
        images: that score, with labels.
        teacher: logits for the images (N, K); those of the start by default.
        recipes: how the device runs each precision; logits are then those of its kernels.
        make: assembles a candidate from the library.
    """

    def __init__(
        self,
        library: Library,
        images: Split,
        teacher: Tensor | None = None,
        recipes: Book | Sequence[str] = DEFAULT_RECIPES,
        make: Maker = assemble,
    ) -> None:
        self._library, self._images, self._recipes = library, images, recipes
        self._make = make
        self._teacher = self._of_start() if teacher is None else teacher

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracies with their 95% intervals, the divergence in nats, and its rank's score."""
        logits = self.logits(candidate)
        far = divergence(self._teacher, logits)
        scored = {"divergence": far, "score": -math.log(max(far, LEAST))}
        return accuracy(logits, self._images.labels) | scored

    @torch.inference_mode()
    def logits(self, candidate: Candidate) -> Tensor:
        """Logits of the assembled candidate with its compression applied (N, K)."""
        network = _assembled(self._make, self._library, candidate, _fixed(self._recipes))
        images = self._images.batches(CHUNK, candidate.architecture.input_size)
        return run_batches(network, network.state_dict(), candidate, images, self._recipes)

    @torch.inference_mode()
    def _of_start(self) -> Tensor:
        network = self._library.start.network
        images = self._images.batches(CHUNK, network.architecture.input_size)
        return torch.cat([network(part) for part in images])


def glanced_at(architecture: Architecture) -> int:
    """Number of images that repair a candidate well enough to tell it from others."""
    return max(GLANCE, GLANCE_TOKENS // architecture.grid**2)


def looked_at(architecture: Architecture) -> int:
    """Number of images that tell candidates of a start apart, by its own architecture."""
    least, most = LOOKED_AT
    return min(most, max(least, LOOKED_AT_TOKENS // architecture.grid**2))


Fixed = tuple[str, ...] | tuple[tuple[str, str], ...]


def _fixed(recipes: Book | Sequence[str]) -> Fixed:
    """Recipes that can be a key."""
    return tuple(sorted(recipes.items())) if isinstance(recipes, Mapping) else tuple(recipes)


@lru_cache(maxsize=KEPT)
def _assembled(make: Maker, library: Library, candidate: Candidate, recipes: Fixed) -> Network:
    """The network, which a next rung asks for again; nobody may change it."""
    pairs = [pair for pair in recipes if isinstance(pair, tuple)]
    names = [name for name in recipes if isinstance(name, str)]
    return make(library, candidate, dict(pairs) if pairs else names)
