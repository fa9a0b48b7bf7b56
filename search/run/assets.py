"""Run: a run folder and its assets; `ensure_...` trains or measures those that are missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial, wraps
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor

from ...cost_models import CostModel, Device, calibrate
from ...cost_models.runtimes.torch import threads
from ...spaces import Candidate, SearchSpace
from ...spaces.errors import RunError, VitParetoError
from ...spaces.networks import Network
from ...spaces.supernet import Supernet
from ..config import RunConfig, load_config
from ..console import share_bar
from ..data.dataset import Data, Split
from ..data.loading import load_data, record_images
from ..data.splits import SPLITS
from ..executors import open_executor
from ..library.layers import LayerLoss
from ..library.making import make_library
from ..library.parts import Library
from ..library.repair import assemble
from ..library.start import Start
from ..loop.study import Scoring, ahead
from ..scoring.assembled import LOOKED_AT, AssembledScorer, glanced_at
from ..scoring.cut_forecast import CutForecast, Example, on_other_split
from ..scoring.evaluation import Evaluation, Scorer, evaluate
from ..scoring.evaluation_log import EvaluationLog, read_evaluations
from ..scoring.finishing import Finishing
from ..scoring.forecast import EXAMPLE_SEED, Forecast, draw_examples, enough, train_examples
from ..scoring.inherited import Evaluator
from ..scoring.lift import Lifted, anchors
from ..scoring.predicted_costs import CostPredictor
from ..scoring.score_queue import Scores
from ..scoring.scratch import ShortTraining
from ..scoring.strata import spread_examples
from ..scoring.successive_halving import Halving, part
from ..start.adapt import Adaptation
from ..start.fitted import (
    check_start,
    fit,
    load_network,
    open_start,
    save_network,
    teacher_of,
    typical_images,
)
from ..store.atomic_files import read_json, write_atomic
from ..store.run_folder import RunFolder
from ..training.accuracy import accuracy
from ..training.checkpoint import Checkpoint
from ..training.distribute import train_shared
from ..training.finetune import CALIBRATION, FineTuning
from ..training.loss_curves import Health
from ..training.pace import Limit
from ..training.ready_teacher import check_teacher
from ..training.supernet import fresh, shared_from
from ..training.teacher import Lessons, make_lessons, open_teacher, predict, train_teacher
from .opening import require_energy
from .rates import Rates, main_threads, measure_rates, views_of
from .stage import Stage
from .stages import running

TRAINED_FROM = ("space", "data", "teacher", "distill", "supernet")  # sections behind a supernet

T = TypeVar("T")

log = logging.getLogger("vitpareto")


def _once(ensure: Callable[[Run], T]) -> Callable[[Run], T]:
    """Cache the result of a method of a run while the run is open."""

    @wraps(ensure)
    def remembered(run: Run) -> T:
        made = run.made
        if ensure.__name__ not in made:
            made[ensure.__name__] = ensure(run)
        return made[ensure.__name__]

    return remembered


class Run:
    """A run folder and its assets.

    Properties are read from the folder. The methods `ensure_...` load an asset, or make it if it is
    missing, in stages that take minutes to hours; each is saved when it ends. As a context manager
    it gives torch the threads of the configuration.

    Args:
        folder: from `open_run`.

    Attributes:
        begun: when it was opened, by `time.monotonic`.
        before_s: seconds of the stages that had ended by then.
        limit: of the stage that is to begin; none where nothing but its lengths says how long it
            takes.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.config = load_config(folder.config)
        self.made: dict[str, Any] = {}
        self.begun = time.monotonic()
        self.limit: Limit | None = None
        kept = read_json(folder.stages) if folder.stages.exists() else {}
        self.before_s: float = sum(facts.get("seconds", 0.0) for facts in kept.values())
        self._stack = ExitStack()

    def __enter__(self) -> Run:
        self._stack.enter_context(threads(main_threads(self.config)))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @cached_property
    def space(self) -> SearchSpace:
        """The space that is searched."""
        return SearchSpace.from_yaml(self.folder.space)

    @cached_property
    def device(self) -> Device:
        """Device that will run the models."""
        return Device.load(self.config.device.name)

    @property
    def data(self) -> Data:
        """The images; a new run reads them now."""
        return self.ensure_data()

    @property
    def calibration(self) -> Tensor:
        """Train images by which matrices of low rank are cut."""
        return self.data.split("train").images[:CALIBRATION]

    @property
    def tuning(self) -> FineTuning:
        """Training of single networks that are delivered; needs the lessons."""
        config, validation = self.config, self.data.split("validation")
        lessons, weight = self.ensure_lessons(), config.finish.layers
        if weight and (library := self.ensure_library()):
            lessons = replace(lessons, layers=LayerLoss.of(library, weight))
        return FineTuning(lessons, validation, config.finish, config.search.seed, config.search.goal)

    @_once
    def ensure_data(self) -> Data:
        """The images, read into the folder now if they were not yet."""
        config, folder = self.config.data, self.folder
        size = self.space.largest().architecture.input_size
        if folder.is_open and not folder.catalog.exists() and not folder.teacher.exists():
            try:
                with running(folder, Stage.DATA) as facts:
                    catalog = record_images(config, size, folder)
                    facts |= {split: len(catalog.rows_of(split)) for split in SPLITS}
                    self._check_ready(load_data(config, size, None, folder))
            except VitParetoError:
                if not folder.begun:
                    folder.discard()  # another start would end here, too
                raise
            if self.space.description:
                log.info("space: %s", self.space.description)
            for line in (*catalog.decided, *catalog.warnings):
                log.info("data: %s", line)
        return load_data(config, size, folder.test_seal, folder)

    def change(self, config: RunConfig) -> None:
        """Go on with another configuration, which is kept."""
        write_atomic(self.folder.config, config.to_yaml())
        self.config = config

    def _keep_passes(self, key: str) -> None:
        """Keep the passes that a training has made, if the time and not they ended it."""
        if self.limit and self.limit.made:
            self.change(self.config.with_values({key: max(1, round(self.limit.made))}))

    def ensure_rates(self) -> Rates:
        """Durations of steps on this machine, timed now if they were not yet."""
        kept, data = self.folder.rates, self.data
        if not kept.exists():
            stages = read_json(self.folder.stages) if self.folder.begun else {}
            reading_s = stages.get(Stage.DATA, {}).get("seconds", 0.0)
            log.info("timing some steps of every stage")
            with torch.random.fork_rng(devices=[]):
                measure_rates(self.config, self.space, data, reading_s).save(kept)
        return Rates.load(kept, self.config)

    def _check_ready(self, data: Data) -> None:
        """Look at a ready start and a ready teacher before anything rests on them."""
        if name := self.config.start.model:
            start = open_start(self.config.start)
            if found := check_start(start, self.config.start, self.space, data):
                log.info("start: %s %s", name, found)
        if name := self.config.teacher.model:
            log.info(
                "teacher: %s %s", name, check_teacher(open_teacher(data, self.config.teacher), data)
            )

    @_once
    def ensure_cost_model(self) -> CostModel:
        """Cost model of the device: from the folder, the configuration, or calibrated now."""
        wanted, kept = self.config.device, self.folder.cost_model
        if not kept.exists() and wanted.cost_model:
            CostModel.load(Path(wanted.cost_model)).save(kept)
        elif not kept.exists():
            label = f"calibrating {self.device.name}"
            with running(self.folder, Stage.CALIBRATION) as facts, share_bar(label) as bar:
                seed = self.config.search.seed
                model = calibrate(
                    self.device, self.space, wanted.calibrate_s, seed, out=kept, progress=bar
                )
                facts |= model.validation
        model = CostModel.load(kept)
        require_energy(self.config, model)
        return model

    @property
    def costs(self) -> CostPredictor:
        """Predicted and exact costs of candidates."""
        return CostPredictor(self.ensure_cost_model())

    @_once
    def ensure_start(self) -> Network | None:
        """The network that the run starts from, adapted now if it was not yet.

        None where the configuration names none.

        Raises:
            RunError: the run was made before there were starts; or as `open_start` and `fit`.
        """
        config, folder, seed = self.config, self.folder, self.config.search.seed
        if not config.start.model:
            return None
        if not folder.start.exists():
            if folder.supernet.exists():
                raise RunError(
                    f"{folder.path}: its weights were made by a release without `start`, and "
                    "others would not fit them: name another folder with --run-dir"
                )
            about = self.space.to_yaml(), repr(config.data), repr(config.start), str(seed)
            checkpoint = Checkpoint(folder.start_checkpoint, *about)
            adapt = Adaptation(
                self.data, config.start.adapt, seed, config.search.goal, config.data.balance
            )
            with running(folder, Stage.START) as facts:
                network, knows = fit(open_start(config.start), config.start, self.space, self.data)
                facts |= adapt(network, checkpoint, knows)
                save_network(folder.start, network)
            checkpoint.delete()
        return load_network(folder.start)

    @_once
    def ensure_lessons(self) -> Lessons:
        """Answers of the teacher on the train images; it is trained now if it was not yet."""
        config, balance = self.config, self.config.data.balance
        if not self.folder.teacher.exists():
            start = None if config.teacher.model else self.ensure_start()
            with running(self.folder, Stage.TEACHER) as facts:
                teacher = (
                    teacher_of(start)
                    if start
                    else train_teacher(
                        self.data, config.teacher, config.search.seed, balance, self.limit
                    )
                )
                validation = self.data.split("validation")
                views = views_of(config, len(self.data.train_labels))
                facts |= accuracy(predict(teacher, validation.images), validation.labels)
                logits = make_lessons(self.data, teacher, views).teacher
                weights = {f"network.{name}": v for name, v in teacher.state_dict().items()}
                write_atomic(self.folder.teacher, save(weights | {"logits": logits}))
            self._keep_passes("teacher.epochs")
        state = load_file(self.folder.teacher)
        logits, teacher = state.pop("logits"), None
        if config.distill.looks_inside:
            start = None if config.teacher.model else self.ensure_start()
            teacher = teacher_of(start) if start else open_teacher(self.data, config.teacher).eval()
            teacher.load_state_dict({n.removeprefix("network."): v for n, v in state.items()})
        return Lessons.of(self.data, logits, config.distill, teacher, balance)

    @_once
    def ensure_library(self) -> Library | None:
        """Parts that imitate those of the start, made now if they were not yet.

        None where the run has no start.
        """
        network, config = self.ensure_start(), self.config
        if network is None:
            return None
        start = Start.of(network, typical_images(self.data, network.architecture))
        with running(self.folder, Stage.LIBRARY) as facts, open_executor(config.executor) as pool:
            library = make_library(start, self.space, pool, self.folder.library)
            facts |= {"options": len(library.options), "dropped": library.dropped}
        return library

    @property
    def inherited(self) -> Callable[[Candidate], Network]:
        """Makes a candidate's network before its training: assembled from the library, or a slice.

        Without shared weights it is a new one. It travels to workers, and raises SpaceError for no
        candidate of the space.
        """
        if library := self.ensure_library():
            return partial(assemble, library, recipes=self.ensure_cost_model().recipes)
        if not self.config.has_supernet:
            return partial(fresh, seed=self.config.search.seed)
        return self.ensure_supernet().extract

    @_once
    def ensure_supernet(self) -> Supernet:
        """Shared weights, trained now if they were not yet; or those of the start, sorted.

        Raises:
            RunError: the run does without.
        """
        lessons, config, folder = self.ensure_lessons(), self.config, self.folder
        if not (config.has_supernet or config.start.model):
            raise RunError(f"{folder.path}: has no shared weights, as supernet.epochs is 0")
        if not folder.supernet.exists() and (start := self.ensure_start()):
            with running(folder, Stage.SUPERNET):
                cut = shared_from(start, self.space, lessons, config.search.seed)
                write_atomic(folder.supernet, save(cut.state_dict()))
        if not folder.supernet.exists():
            checkpoint = Checkpoint(
                folder.supernet_checkpoint,
                self.space.to_yaml(),
                *(repr(getattr(config, name)) for name in TRAINED_FROM),
                str(config.search.seed),
            )
            with running(folder, Stage.SUPERNET) as facts:
                health = Health()
                trained = train_shared(
                    self.space,
                    lessons,
                    config.supernet,
                    config.search.seed,
                    config.executor,
                    checkpoint,
                    health,
                    self.limit,
                )
                facts |= health.latest() | {"alarms": health.alarms}
                write_atomic(folder.supernet, save(trained.state_dict()))
            self._keep_passes("supernet.epochs")
            checkpoint.delete()
        supernet = Supernet(self.space)
        supernet.load_state_dict(load(folder.supernet.read_bytes()))
        return supernet

    @_once
    def ensure_forecast(self) -> Forecast | CutForecast | None:
        """Predictor of accuracies from short trainings, which are done now if they were not yet.

        Beside a start it is of finished candidates. None where the configuration asks for no such
        trainings.
        """
        config, goal = self.config, self.config.search.goal
        if not config.forecast.candidates:
            return None
        training, examples = self._examples()
        log, at_once = EvaluationLog(self.folder.short_trainings), ahead(config)
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
            facts["trained"] = len(trained)
            if goal in config.search.limits:
                self._train_to_the_end(anchors(enough(trained), goal), executor)
        rmtree(self.folder.half_trained, ignore_errors=True)
        if config.start.model:
            return CutForecast.fit(self._for_validation(trained), self.assembled())
        return Forecast.fit(trained)

    def _for_validation(self, trained: Sequence[Evaluation]) -> Sequence[Evaluation]:
        """Examples with accuracies as on the validation split, as far as a start tells."""
        if not self.config.start.model:
            return trained
        return on_other_split(trained, *self._start_by_split())

    @_once
    def _start_by_split(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Accuracies of the start on the search and on the validation split."""
        start = self.ensure_start()
        assert start
        here, there = (self.data.split(name) for name in ("search", "validation"))
        return (
            accuracy(predict(start, here.images), here.labels),
            accuracy(predict(start, there.images), there.labels),
        )

    def _examples(self) -> tuple[Scorer, list[Candidate]]:
        """What trains the examples of a forecast for some steps, and the examples."""
        wanted, seed = self.config.forecast, self.config.search.seed
        if not self.config.start.model:
            short = self.short(wanted.steps).with_seed(EXAMPLE_SEED + seed)
            return short, draw_examples(self.space, wanted.candidates, seed)
        finishing = self.finishing(self.data.split("search"), wanted.steps)
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
        finishing = self.finishing(self.data.split("search"))
        finishing = finishing.with_seed(EXAMPLE_SEED + config.search.seed)
        kept, label = EvaluationLog(self.folder.whole_trainings), "whole trainings"
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

    @_once
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

    @_once
    def _glance(self) -> Library:
        """The library with as many images as it takes to tell candidates apart."""
        library = self.ensure_library()
        assert library
        return library.seeing(glanced_at(library.start.architecture))

    def assembled(self, share: float = 1.0) -> AssembledScorer:
        """Scorer with weights from the library, which are rounded as on the device."""
        library, search = self._glance(), self.data.split("search")
        recipes, seen = self.ensure_cost_model().recipes, min(1.0, LOOKED_AT / len(search))
        return AssembledScorer(library, part(search, seen * share), recipes=recipes)

    def evaluator(self, share: float = 1.0) -> Evaluator:
        """Scorer with inherited weights, which are rounded as on the device."""
        search, train = self.data.split("search"), self.data.split("train")
        recipes = self.ensure_cost_model().recipes
        return Evaluator(self.ensure_supernet(), part(search, share), train, recipes)

    def scoring(self, executor: Executor, evaluations: Path) -> Scoring:
        """Open the scoring of candidates, with a log in a file, or in one for each rung."""
        rungs: list[Scores] = []
        for share, scorer in self.ensure_scorers().items():
            stem = evaluations.stem if share == 1 else f"{evaluations.stem}-{share:g}"
            log = EvaluationLog(evaluations.with_stem(stem))
            rungs.append(Scores(partial(evaluate, scorer), executor, log))
        return Halving(rungs, self.config.search.resolve()) if len(rungs) > 1 else rungs[0]
