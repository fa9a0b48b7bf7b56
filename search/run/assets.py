"""Run: a run folder and its assets; `ensure_...` trains or measures those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...cost_models.runtimes.torch import threads
from ...spaces import Candidate
from ..loop.study import Scoring
from ..scoring.cut_forecast import CutForecast
from ..scoring.evaluation import Evaluation, Scorer, evaluate
from ..scoring.evaluation_log import EvaluationLog, read_evaluations
from ..scoring.inherited import Evaluator
from ..scoring.lift import Lifted
from ..scoring.score_queue import Scores
from ..scoring.successive_halving import Halving, part
from ..store.run_folder import RunFolder
from .forecasting import Forecasting
from .ingredients import once
from .rates import main_threads


class Run(Forecasting):
    """A run folder and its assets.

    Properties are read from the folder. The methods `ensure_...` load an asset, or make it if it is
    missing, in stages that take minutes to hours; each is saved when it ends. As a context manager
    it gives torch the threads of the configuration.

    Args:
        folder: from `open_run`.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder)
        self._stack = ExitStack()

    def __enter__(self) -> Run:
        self._stack.enter_context(threads(main_threads(self.config)))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @once
    def ensure_scorers(self) -> dict[float, Scorer]:
        """Share of the search split -> scorer of candidates on it; the whole split comes last.

        Beside a start candidates are assembled; a forecast says what they become. Without a
        start it needs no image, and without it inherited weights score. Where an accuracy has a
        limit, it is lifted from that after short trainings to that after whole ones.
        """
        forecast, shares = self.ensure_forecast(), (*sorted(self.config.search.rungs), 1.0)
        if forecast:
            whole, _ = read_evaluations(self.folder.whole_trainings)
            lifted = Lifted.fit(forecast, self._for_validation(whole))
            if not isinstance(forecast, CutForecast):
                return {1.0: lifted}
            judges = {share: forecast.judged_by(self.assembled(share)) for share in shares}
            return {share: replace(lifted, forecast=judge) for share, judge in judges.items()}
        judge = self.assembled if self.config.start.model else self.evaluator
        return {share: judge(share) for share in shares}

    def evaluator(self, share: float = 1.0) -> Evaluator:
        """Scorer with inherited weights, which are rounded as on the device."""
        search, train = self.data.split("search"), self.data.split("train")
        recipes = self.ensure_cost_model().recipes
        return Evaluator(self.ensure_supernet(), part(search, share), train, recipes)

    def scoring(self, executor: Executor, evaluations: Path) -> Scoring:
        """Open the scoring of candidates, with a log in a file, or in one for each rung."""
        rungs: list[Scores] = []
        for share, score in self._calls().items():
            stem = evaluations.stem if share == 1 else f"{evaluations.stem}-{share:g}"
            log = EvaluationLog(evaluations.with_stem(stem), again=True)
            rungs.append(Scores(score, executor, log))
        return Halving(rungs, self.config.search.resolve()) if len(rungs) > 1 else rungs[0]

    @once
    def _calls(self) -> dict[float, Callable[[Candidate, Mapping[str, float]], Evaluation]]:
        """What scores a candidate whose costs are known, by share of the images.

        The same objects each time, as executors send one to a worker once, and keep it.
        """
        return {share: partial(evaluate, scorer) for share, scorer in self.ensure_scorers().items()}
