"""Scratch: a candidate scored by a training of its own, short or not.

Slower than inherited weights and closer to the truth: nothing is shared, so nothing interferes.
The teacher's cached answers make its steps as cheap as those of training on labels.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from ...spaces import Candidate
from ..config import TrainConfig
from ..data.dataset import Split
from ..training.accuracy import accuracy_and_score
from ..training.forward import predict
from ..training.supernet import fresh, training_steps
from ..training.teacher import Lessons


@dataclass(frozen=True, slots=True)
class ShortTraining:
    """Scores candidates after some steps from scratch.

    Attributes:
        lessons: images, labels and the teacher's answers.
        images: that score.
        config: recipe; its schedule is shortened to the steps.
        steps: the level of fidelity; more steps rank better.
        seed: of weights and order.
    """

    lessons: Lessons
    images: Split
    config: TrainConfig
    steps: int
    seed: int = 0

    def with_seed(self, seed: int) -> ShortTraining:
        """The same training from other weights, in another order."""
        return replace(self, seed=seed)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracies with their 95% intervals, and scores."""
        network = fresh(candidate, self.seed)
        training = training_steps(
            candidate, network, self.lessons, self.config, self.seed, self.steps
        )
        deque(training, maxlen=0)
        return accuracy_and_score(predict(candidate, network, self.images), self.images.labels)
