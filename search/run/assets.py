"""The whole job: from images and a device to a verified front, each stage kept as it ends.

A stage whose file is in the run folder is not run again; that is all there is to resuming.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save

from ...cost_models import CostModel, Device, calibrate
from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate, SearchSpace
from ...spaces.errors import RunError
from ...spaces.networks import Network
from ...spaces.supernet import Supernet
from ..compress.network import DEFAULT_RECIPES
from ..config import load_config
from ..console import share_bar
from ..data.dataset import Data, load_data
from ..delivery.deliver import Terms, deliver, delivered
from ..delivery.shortlist import SHORT, corrected, error_facts, measure_shortlist
from ..delivery.verify import test_once, verify_new
from ..executors import open_executor
from ..experiments.reference import measure_reference
from ..loop.nearest_feasible import excess, misses, nearest
from ..loop.optuna_sampler import Sampler
from ..loop.study import Scoring, Study, Until, window
from ..loop.task import Task
from ..pareto.objectives import pareto_front, spread
from ..report import build_report
from ..scoring.evaluation import Evaluation, Judge, evaluate
from ..scoring.evaluation_log import EvaluationLog
from ..scoring.forecast import EXAMPLE_SEED, Forecast, draw_examples, train_examples
from ..scoring.inherited import Evaluator
from ..scoring.predicted_costs import Costs
from ..scoring.score_queue import Scores
from ..scoring.scratch import ShortTraining
from ..scoring.successive_halving import Halving, part
from ..store.atomic_files import read_json, write_atomic
from ..store.run_folder import RunFolder
from ..training.accuracy import accuracy
from ..training.checkpoint import Checkpoint
from ..training.distribute import train_shared
from ..training.finetune import Finalist, FineTuning, retrain, start_network, train_finalists
from ..training.loss_curves import Health
from ..training.teacher import Lessons, make_lessons, open_teacher, predict, train_teacher
from .opening import FIXED, require_energy
from .stages import stage

VIEWS = 12  # augmented views of every train image, for which the teacher's logits are kept

log = logging.getLogger("vitpareto")


class Run:
    """A run folder with what its stages need, each loaded or made when it is first asked for.

    Args:
        folder: from `open_run`.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.config = load_config(folder.config)
        torch.set_num_threads(self.config.executor.threads or len(os.sched_getaffinity(0)))

    @cached_property
    def space(self) -> SearchSpace:
        """The space that is searched."""
        return SearchSpace.from_yaml(self.folder.space)

    @cached_property
    def device(self) -> Device:
        """Where the models will run."""
        return Device.load(self.config.device.name)

    @cached_property
    def data(self) -> Data:
        """The images."""
        size = self.space.largest().architecture.input_size
        return load_data(self.config.data, size, self.folder.test_seal)

    @cached_property
    def lessons(self) -> Lessons:
        """What the teacher says, trained now if it is not yet."""
        config = self.config
        if not self.folder.teacher.exists():
            with stage(self.folder, "teacher") as facts:
                teacher = train_teacher(self.data, config.teacher, config.search.seed)
                validation = self.data.split("validation")
                facts |= accuracy(predict(teacher, validation.images), validation.labels)
                logits = make_lessons(self.data, teacher, VIEWS).teacher
                weights = {f"network.{name}": v for name, v in teacher.state_dict().items()}
                write_atomic(self.folder.teacher, save(weights | {"logits": logits}))
        state = load_file(self.folder.teacher)
        logits, teacher = state.pop("logits"), None
        if config.distill.looks_inside:
            teacher = open_teacher(self.data, config.teacher).eval()
            teacher.load_state_dict({n.removeprefix("network."): v for n, v in state.items()})
        return Lessons.of(self.data, logits, config.distill, teacher)

    @cached_property
    def cost_model(self) -> CostModel:
        """The device's cost model, calibrated now if it is not yet."""
        wanted = self.config.device
        if not self.folder.cost_model.exists():
            if wanted.cost_model:
                CostModel.load(Path(wanted.cost_model)).save(self.folder.cost_model)
            else:
                label = f"calibrating {self.device.name}"
                with stage(self.folder, "calibration") as facts, share_bar(label) as bar:
                    model = calibrate(
                        self.device,
                        self.space,
                        wanted.calibrate_s,
                        self.config.search.seed,
                        out=self.folder.cost_model,
                        progress=bar,
                    )
                    facts |= model.validation
        model = CostModel.load(self.folder.cost_model)
        require_energy(self.config, model)
        return model

    @cached_property
    def supernet(self) -> Supernet:
        """The shared weights, trained now if they are not yet."""
        lessons, config = self.lessons, self.config
        if not self.folder.supernet.exists():
            checkpoint = Checkpoint(
                self.folder.path / "supernet.checkpoint",
                self.space.to_yaml(),
                *(repr(getattr(config, name)) for name in FIXED),
                str(config.search.seed),
            )
            with stage(self.folder, "supernet") as facts:
                health = Health()
                trained = train_shared(
                    self.space,
                    lessons,
                    config.supernet,
                    config.search.seed,
                    config.executor,
                    checkpoint,
                    health,
                )
                facts |= health.latest() | {"alarms": health.alarms}
                write_atomic(self.folder.supernet, save(trained.state_dict()))
            checkpoint.delete()
        supernet = Supernet(self.space)
        supernet.load_state_dict(load(self.folder.supernet.read_bytes()))
        return supernet

    def study(self) -> list[Evaluation]:
        """Search to the end; the front."""
        config, search = self.config, self.config.search
        costs = Costs(self.cost_model).all
        task = Task(self.space, search.resolve(), costs, search.seed, search.trials)
        _ = self.supernet, self.judges  # trained in stages of their own, before this one
        with stage(self.folder, "search") as facts, open_executor(config.executor) as executor:
            folder = self.folder
            driver = read_json(folder.environment)["run"] if search.storage else ""
            sampler = Sampler(search.sampler, task, folder.journal, search.storage, driver)
            study = Study(
                task, sampler, self.scoring(executor, self.folder.evaluations), window(config)
            )
            ending = study.run(Until(search.trials, seconds=search.max_s, patience=search.patience))
            facts |= {
                "ended by": ending,
                "trials": study.told,
                "scored": len(study.scoring.log),
                "hypervolume": study.archive.volume,
            }
        return study.front()

    @cached_property
    def judges(self) -> dict[float, Judge]:
        """Share of the search split -> what scores a candidate on it; all of it comes last.

        A forecast looks at no image; inherited weights are only asked where there is none.
        """
        if self.forecast:
            return {1.0: self.forecast}
        return {share: self.evaluator(share) for share in (*sorted(self.config.search.rungs), 1.0)}

    def evaluator(self, share: float = 1.0) -> Evaluator:
        """What scores candidates with inherited weights."""
        search, train = self.data.split("search"), self.data.split("train")
        return Evaluator(self.supernet, part(search, share), train, self.recipes)

    @property
    def recipes(self) -> Book | Sequence[str]:
        """What the device runs each precision with, as far as it has been measured."""
        measured = self.folder.cost_model.exists()
        return self.cost_model.recipes if measured else DEFAULT_RECIPES

    @cached_property
    def forecast(self) -> Forecast | None:
        """Predicts accuracies from short trainings, which are done now if they are not yet."""
        config, seed = self.config, self.config.search.seed
        wanted, search = config.forecast, self.data.split("search")
        if not config.examples:
            return None
        training = ShortTraining(
            self.lessons, search, config.proxy, wanted.steps, EXAMPLE_SEED + seed
        )
        examples = draw_examples(self.space, wanted.candidates, seed)
        log = EvaluationLog(self.folder.examples)
        with stage(self.folder, "forecast") as facts, open_executor(config.executor) as executor:
            trained = train_examples(examples, training, executor, log, window(config))
            facts["trained"] = len(trained)
        return Forecast.fit(trained)

    def scoring(self, executor: Executor, evaluations: Path) -> Scoring:
        """Scores candidates, and keeps what came of them in a file, or one a rung."""
        rungs: list[Scores] = []
        for share, judge in self.judges.items():
            stem = evaluations.stem if share == 1 else f"{evaluations.stem}-{share:g}"
            log = EvaluationLog(evaluations.with_stem(stem))
            rungs.append(Scores(partial(evaluate, judge), executor, log))
        return Halving(rungs, self.config.search.resolve()) if len(rungs) > 1 else rungs[0]

    def finalists(self, front: list[Evaluation]) -> list[Evaluation]:
        """Those to deliver: spread over the front of the first two objectives, ends included.

        More are measured than are wanted, and the front of what was measured counts.
        """
        objectives, wanted = self.config.search.resolve(), self.config.finish.finalists
        traded = [o for o in objectives if o.traded][:2]
        plane, last = [replace(o, traded=o in traded) for o in objectives], traded[-1].name
        chosen = spread(pareto_front(front, plane), SHORT * wanted, last)
        with stage(self.folder, "shortlist") as facts:
            kept = self.folder.shortlist
            measured = measure_shortlist(chosen, self.cost_model, self.device, kept)
            facts |= error_facts(measured)
        chosen = corrected(chosen, measured)
        return spread(pareto_front(chosen, plane) or chosen, wanted, last)

    @cached_property
    def tuning(self) -> FineTuning:
        """How finalists are trained."""
        config, validation = self.config, self.data.split("validation")
        return FineTuning(self.lessons, validation, config.finish, config.search.seed)

    def finish(self, chosen: Sequence[Evaluation]) -> None:
        """Train finalists on their own, and make an artifact of each."""
        config, pareto, tuning = self.config, self.folder.pareto, self.tuning
        slow_first = sorted(chosen, key=lambda e: -e.metrics["latency_ms"])  # to train, too
        new = {e.key: e for e in slow_first if not delivered(pareto, e.key)}
        if not new:
            return
        finalists = [
            Finalist(
                e.candidate,
                start_network(self.supernet, e.candidate, self.data, tuning),
                pareto / f".{e.key}.safetensors",
            )
            for e in new.values()
        ]

        def train_on(candidate: Candidate, network: Network) -> Network:
            return retrain(Finalist(candidate, network, pareto / f".{candidate.key}.again"), tuning)

        terms = Terms(
            self.data,
            self.device,
            Costs(self.cost_model),
            config.search.resolve(),
            config.export.calibration_images,
            {"search.seed": config.search.seed, "data.seed": config.data.seed},
            train_on,
        )
        with open_executor(config.executor) as executor:
            trained = train_finalists(finalists, tuning, executor, config.executor.workers)
        for finalist in trained:
            deliver(pareto, new[finalist.candidate.key], finalist.network, terms)
            finalist.kept.unlink(missing_ok=True)

    def nearest(self) -> Evaluation:
        """What misses the limits by the least, scored, for when nothing keeps them.

        Raises:
            RunError: it cannot be scored.
        """
        objectives = self.config.search.resolve()
        evaluations = EvaluationLog(self.folder.evaluations)
        candidate, costs = self.expected()
        evaluations.append(evaluate(self.judges[1.0], candidate, costs))
        scored = [e for e in evaluations.all() if e.status == "complete"]
        if not scored:
            raise RunError(f"{self.folder.path}: no candidate could be scored; log.txt says why")
        found = min(scored, key=lambda e: excess(e.metrics, objectives))
        missed = misses(found.metrics, objectives) or "what the trials did not find"
        log.warning(
            "search: none of %d trials kept the limits; the nearest candidate, %s, has %s; it is "
            "delivered all the same, and marked where it misses them",
            *(self.config.search.trials, found.key, missed),
        )
        return found

    def expected(self) -> tuple[Candidate, Mapping[str, float]]:
        """The candidate whose predicted costs are nearest to the limits, and these costs."""
        search, costs = self.config.search, Costs(self.cost_model).all
        return nearest(self.space, search.resolve(), costs, search.seed)

    def all(self) -> list[dict[str, Any]]:
        """Everything; the manifests of the delivered models.

        Where nothing keeps the limits, what misses them by the least is delivered, unverified.

        Raises:
            RunError: no candidate can be scored.
        """
        _, costs = self.expected()
        if missed := misses(costs, self.config.search.resolve()):
            log.warning(
                "search: hardly any candidate can keep the limits: the nearest one that was found "
                "is predicted to have %s",
                missed,
            )
        front = self.study()
        chosen = self.finalists(front) if front else [self.nearest()]
        folder = self.folder
        with stage(folder, "finishing"):
            self.finish(chosen)
        with stage(folder, "verification"):
            verify_new(folder, self.device, self.data)
            manifests = test_once(folder, self.device, self.data)
        measure_reference(self)
        build_report(folder)
        return manifests
