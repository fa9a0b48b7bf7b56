"""Finishing: a candidate is trained as what is delivered is, and judged.

Dearer than a look at it before, and the truth about it. A kill costs a slice of the
training under way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ...spaces import Candidate
from ...spaces.networks import Network
from ..data.dataset import Split
from ..training.accuracy import SCORES, accuracy
from ..training.finetune import Finalist, FineTuning, start_network, train_alone
from ..training.forward import predict

ELSEWHERE = "elsewhere_"  # before the names of accuracies on another split


@dataclass(frozen=True, slots=True)
class Finishing:
    """Scores candidates by what they are after their training; travels to workers.

    Attributes:
        begin: makes the network of a candidate, with the weights that it begins with.
        tuning: recipe, its seed, and the images that judge.
        calibration: images by which matrices of low rank are cut.
        folder: where what is half trained is kept.
        elsewhere: images of another split, on which accuracies are told as well.
    """

    begin: Callable[[Candidate], Network]
    tuning: FineTuning
    calibration: Tensor
    folder: Path
    elsewhere: Split | None = None

    def with_seed(self, seed: int) -> Finishing:
        """The same training in another order of the images."""
        return replace(self, tuning=replace(self.tuning, seed=seed))

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracies with their 95% intervals, and those `elsewhere`."""
        network = start_network(self.begin, candidate, self.calibration, self.tuning)
        kept = self.folder / f"{candidate.key}.{self.tuning.seed}.safetensors"
        train_alone(Finalist(candidate, network, kept), self.tuning)
        found = _judged(candidate, network, self.tuning.validation)
        if self.elsewhere:
            there = _judged(candidate, network, self.elsewhere)
            found |= {f"{ELSEWHERE}{name}": there[name] for name in SCORES}
        kept.unlink(missing_ok=True)
        return found


def _judged(candidate: Candidate, network: Network, split: Split) -> dict[str, float]:
    return accuracy(predict(candidate, network, split), split.labels)
