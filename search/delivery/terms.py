"""Terms: settings by which every artifact of a run is made and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...cost_models import Device
from ...spaces import Candidate
from ...spaces.errors import CostError
from ...spaces.networks import Network
from ..config.sections import TokenForm
from ..data.dataset import Data
from ..pareto.objectives import Objective, goal, violations
from ..scoring.predicted_costs import CostPredictor
from .build import Build
from .export import build_for
from .gate import DROPS


@dataclass(frozen=True)
class Terms:
    """Settings by which every artifact of a run is made and checked.

    Attributes:
        data: for calibration, ranking and checks.
        device: that will run the models.
        costs: predicts those of candidates on it.
        objectives: with the limits that a delivered model must keep.
        calibration_images: train images from which activation ranges are taken.
        seeds: of everything random that the artifact depends on, by name.
        retrain: (candidate, network) -> the network trained a little more, after a step back or
            without its distillation token.
        others: predictors of costs on other devices that the run is for, by name.
        drops: stage -> by how much the accuracy of an artifact may fall in it.
        distill_token: form in which networks with a distillation token are delivered.
        exit_drop: by how much exits may lower the accuracy of the whole network.
    """

    data: Data
    device: Device
    costs: CostPredictor
    objectives: Sequence[Objective]
    calibration_images: int
    seeds: Mapping[str, int]
    retrain: Callable[[Candidate, Network], Network]
    others: Mapping[str, CostPredictor] = field(default_factory=dict[str, CostPredictor])
    drops: Mapping[str, float] = field(default_factory=lambda: DROPS)
    distill_token: TokenForm = "fused"
    exit_drop: float = 0.0

    @property
    def goal(self) -> str:
        """Name of the accuracy that the run maximizes."""
        return goal(self.objectives)

    def build(self, candidate: Candidate, network: Network, compensate: bool = False) -> Build:
        """Make a candidate ready for the device.

        Raises:
            CostError: a precision that the device cannot run.
            RunError: there are too few calibration images.
        """
        recipes, count = self.costs.model.recipes, self.calibration_images
        return build_for(self.device, candidate, network, recipes, self.data, count, compensate)

    def allows(self, candidate: Candidate) -> bool:
        """Whether the device runs a candidate, and its predicted costs keep the limits."""
        try:
            predicted = self.costs(candidate)
        except CostError:
            return False
        return all(excess <= 0 for excess in violations(predicted, self.objectives).values())
