"""Terms: the settings by which a run makes and checks its artifacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...spaces import Candidate
from ...spaces.networks import Network
from ..delivery.gate import DROPS
from ..delivery.terms import Terms
from ..scoring.predicted_costs import CostPredictor
from ..training.finalists import retrain
from ..training.finetune import Finalist
from .assets import Run


def terms_of(
    run: Run,
    is_over: Callable[[], bool] = lambda: False,
    others: Mapping[str, CostPredictor] | None = None,
) -> Terms:
    """The terms of a run; what is decompressed is trained as its finalists are.

    Args:
        run: that delivers.
        is_over: whether there is no time for that training.
        others: predictors of costs on other devices that the run is for, by name.
    """
    config, tuning = run.config, run.tuning

    def train_on(candidate: Candidate, network: Network) -> Network:
        if is_over():
            return network
        again = run.folder.training_of(candidate.key, "again")
        return retrain(Finalist(candidate, network, again), tuning)

    return Terms(
        run.data,
        run.device,
        run.costs,
        config.search.resolve(),
        config.export.calibration_images,
        {"search.seed": config.search.seed, "data.seed": config.data.seed},
        train_on,
        others or {},
        {**DROPS, **config.export.max_drop},
        config.export.distill_token,
        config.finish.exit_drop,
    )
