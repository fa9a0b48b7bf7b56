"""Forecasting: candidates trained alone, and what that tells about all others."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from shutil import rmtree

from ...spaces import Candidate
from ..data.dataset import Split
from ..executors import open_executor
from ..library.layers import LayerLoss
from ..library.parts import Library
from ..loop.study import ahead
from ..scoring.assembled import AssembledScorer, glanced_at, looked_at
from ..scoring.cut_forecast import (
    CutForecast,
    Example,
    known_divergences,
    on_other_split,
    shift_between_splits,
)
from ..scoring.evaluation import Evaluation, Scorer
from ..scoring.evaluation_log import EvaluationLog, read_evaluations
from ..scoring.finishing import ELSEWHERE, Finishing
from ..scoring.forecast import EXAMPLE_SEED, Forecast, draw_examples, enough, train_examples
from ..scoring.forecast_errors import validated_errors
from ..scoring.lift import anchors
from ..scoring.scratch import ShortTraining
from ..scoring.strata import spread_examples
from ..scoring.successive_halving import part
from ..store.atomic_files import read_json
from ..training.accuracy import SCORES, accuracy
from ..training.finetune import FineTuning
from ..training.teacher import logits_on
from .ingredients import Ingredients, once
from .stage import Stage
from .stages import running

log = logging.getLogger("vitpareto")


class Forecasting(Ingredients):
    """Trainings of single candidates, and the forecast that is learned from some."""

    @property
    def tuning(self) -> FineTuning:
        """Training of single networks that are delivered; needs the lessons."""
        config, validation = self.config, self.data.split("validation")
        lessons, weight = self.ensure_lessons(), config.finish.layers
        if weight and (library := self.ensure_library()):
            lessons = replace(lessons, layers=LayerLoss.of(library, weight))
        return FineTuning(
            lessons, validation, config.finish, config.search.seed, config.search.goal
        )

    @once
    def ensure_forecast(self) -> Forecast | CutForecast | None:
        """Predictor of accuracies from short trainings, which are done now if they were not yet.

        Beside a start it is of finished candidates. None where the configuration asks for no such
        trainings.
        """
        config, goal = self.config, self.config.search.goal
        if not config.forecast.candidates:
            return None
        training, examples = self._examples()
        log, at_once = EvaluationLog(self.folder.short_trainings, self._may_change), ahead(config)
        with (
            running(self.folder, Stage.FORECAST) as facts,
            open_executor(config.executor) as executor,
        ):
            limit, begun = self.limit, time.monotonic()
            before = sum(candidate.key in log for candidate in examples)

            def is_over(ended: int) -> bool:
                return limit is not None and limit.is_over(begun, max(0, ended - before), at_once)

            trained = train_examples(examples, training, executor, log, at_once, is_over=is_over)
            if len(trained) < len(examples):  # so that a resumed run is content with them, too
                self.change(config.with_values({"forecast.candidates": len(trained)}))
            fit = (
                partial(CutForecast.fit, judge=known_divergences(enough(trained)))
                if config.start.model
                else Forecast.fit
            )
            off = validated_errors(trained, fit, goal)
            facts |= {"trained": len(trained)} | {f"validated_{k}": v for k, v in off.items()}
            if goal in config.search.limits:
                self._train_to_the_end(anchors(enough(trained), goal), executor)
        rmtree(self.folder.half_trained, ignore_errors=True)
        if config.start.model:
            known = self._for_validation([*trained, self._start_as_example()])
            return CutForecast.fit(known, self.assembled())
        return Forecast.fit(trained)

    @property
    def _may_change(self) -> bool:
        """Whether no candidate was scored by the forecast yet, so that it may learn from others."""
        return not self.folder.begun or Stage.FORECAST not in read_json(self.folder.stages)

    def _for_validation(self, trained: Sequence[Evaluation]) -> Sequence[Evaluation]:
        """Examples with accuracies as on the validation split, by what is known on both."""
        if not self.config.start.model:
            return trained
        images = self.data.count("search"), self.data.count("validation")
        return on_other_split(trained, self._shift_between_splits(), images)

    def _start_as_example(self) -> Evaluation:
        """What needs no training: uncut, the start is as accurate as it is."""
        start, (here, there) = self.ensure_start(), self._start_by_split()
        assert start
        whole = Candidate.uncompressed(start.architecture)
        elsewhere = {f"{ELSEWHERE}{name}": there[name] for name in SCORES}
        return Evaluation(whole, "complete", {**here, **elsewhere, "divergence": 0.0})

    @once
    def _shift_between_splits(self) -> Mapping[str, float]:
        """From the search to the validation split, as the start and the examples tell it."""
        examples, _ = read_evaluations(self.folder.short_trainings)
        return shift_between_splits(examples, *self._start_by_split())

    @once
    def _start_by_split(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Accuracies of the start on the search and on the validation split."""
        start = self.ensure_start()
        assert start
        here, there = (
            accuracy(logits_on(start, split), split.labels)
            for split in map(self.data.split, ("search", "validation"))
        )
        return here, there

    def _examples(self) -> tuple[Scorer, list[Candidate]]:
        """What trains the examples of a forecast for some steps, and the examples."""
        wanted, seed = self.config.forecast, self.config.search.seed
        if not self.config.start.model:
            short = self.short(wanted.steps).with_seed(EXAMPLE_SEED + seed)
            return short, draw_examples(self.space, wanted.candidates, seed)
        finishing = self._on_both_splits(wanted.steps)
        example = Example(finishing.with_seed(EXAMPLE_SEED + seed), self.assembled())
        return example, spread_examples(self.space, wanted.candidates, seed)

    def _train_to_the_end(self, candidates: Sequence[Candidate], executor: Executor) -> None:
        """Train some examples as finalists, as limits on accuracy are about finished models.

        What is best does not depend on how much better than after a short training these are, so
        without such a limit that is not worth its time. A budget says only later how long
        finalists are trained: with one, limits are about short trainings.
        """
        config, goal = self.config, self.config.search.goal
        if config.budget_s:
            log.info("forecast: the limit on %s is about short trainings", goal)
            return
        finishing = self._on_both_splits().with_seed(EXAMPLE_SEED + config.search.seed)
        kept = EvaluationLog(self.folder.whole_trainings, self._may_change)
        label = "whole trainings"
        whole = train_examples(candidates, finishing, executor, kept, ahead(config), label)
        if all(e.status == "failed" for e in whole):
            log.warning("forecast: no whole training ended, so limits are about short ones")

    def short(self, steps: int) -> ShortTraining:
        """Scorer that trains candidates from scratch for some steps."""
        lessons, search = self.ensure_lessons(), self.data.split("search")
        return ShortTraining(lessons, search, self.config.proxy, steps)

    def alone(self, judges: Split) -> ShortTraining | Finishing:
        """Scorer that trains candidates to the end: from scratch, or from a start.

        Args:
            judges: images that say how accurate they are.
        """
        if self.config.start.model:
            return self.finishing(judges)
        lessons, recipe = self.ensure_lessons(), self.config.proxy
        steps = lessons.steps(recipe.batch_size, recipe.epochs)
        return ShortTraining(lessons, judges, recipe, steps)

    def finishing(self, judges: Split, steps: int = 0) -> Finishing:
        """Scorer that trains candidates as what is delivered is, but perhaps for fewer steps.

        Args:
            judges: images that say how accurate they are.
            steps: of a training; 0 for all passes of the recipe.
        """
        tuning = self.tuning
        # A budget is still to say how many steps a whole training has.
        length = steps if self.config.budget_s else min(steps, tuning.steps)
        tuning = replace(tuning, validation=judges, length=length)
        return Finishing(self.inherited, tuning, self.calibration, self.folder.half_trained)

    def _on_both_splits(self, steps: int = 0) -> Finishing:
        """The same, judged by the search split, and by the validation split as well."""
        finishing = self.finishing(self.data.split("search"), steps)
        return replace(finishing, elsewhere=self.data.split("validation"))

    @once
    def _glance(self) -> Library:
        """The library with as many images as it takes to tell candidates apart."""
        library = self.ensure_library()
        assert library
        return library.seeing(glanced_at(library.start.architecture))

    def assembled(self, share: float = 1.0) -> AssembledScorer:
        """Scorer with weights from the library, which are rounded as on the device."""
        library, search = self._glance(), self.data.split("search")
        recipes = self.ensure_cost_model().recipes
        seen = min(1.0, looked_at(library.start.architecture) / len(search))
        return AssembledScorer(library, part(search, seen * share), recipes=recipes)
