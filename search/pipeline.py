"""Pipeline: from images and a device to a verified front, stage by stage.

Every stage writes into the run folder, and makes what is not there yet; this is how a run is
resumed. `STEPS` is the table of stages: the pipeline runs it, `--dry-run` describes it and
estimates its time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

from ..cost_models.hand_over import expectation
from ..spaces import Candidate
from ..spaces.errors import FailedError
from .config import RunConfig
from .delivery.deliver import deliver, delivered
from .delivery.manifest import Manifest, manifests
from .delivery.shortlist import SHORT
from .delivery.tested import test_all_once
from .delivery.verify import verify_new
from .executors import open_executor
from .experiments.reference import measure_reference
from .loop.nearest_feasible import misses, nearest
from .loop.optuna_sampler import Sampler
from .loop.study import Study, Until, window
from .loop.task import Task
from .pareto.objectives import pareto_front
from .report import build_report
from .run.assets import Run
from .run.budget import (
    allot,
    ending,
    expected_rates,
    finishing_pace,
    is_over,
    refuse_too_small,
    settle,
    unchosen,
)
from .run.choosing import chosen_before, finalists, measure_front, scored
from .run.devices import given_model
from .run.estimates import SECONDS
from .run.progress import Job, following
from .run.rates import Rates
from .run.stage import Stage
from .run.stages import running
from .run.terms import terms_of
from .run.ways import choose, trained_as
from .scoring.evaluation import Evaluation, evaluate
from .scoring.evaluation_log import EvaluationLog
from .store.atomic_files import read_json
from .training.finalists import train_finalists
from .training.finetune import Finalist, start_network
from .training.optimizer import torch_device
from .training.pace import Pace

SEEN = 64  # candidates in which exits are looked for
# Stages that lead to the choice of finalists, after which whoever needs more loads it.
CHOOSING = (Stage.LIBRARY, Stage.SUPERNET, Stage.FORECAST, Stage.SEARCH, Stage.SHORTLIST)

log = logging.getLogger("vitpareto")


@dataclass(frozen=True)
class Step:
    """A stage of the pipeline.

    Attributes:
        stage: its name.
        run: does it, or the rest of it.
        about: description for people.
        wanted: whether a run has the stage.
    """

    stage: Stage
    run: Callable[[Run], object]
    about: Callable[[Rates], str]
    wanted: Callable[[RunConfig], bool] = lambda config: True

    def seconds(self, rates: Rates) -> float:
        """Estimate from durations of steps on this machine."""
        return SECONDS[self.stage](rates)


def search(run: Run) -> list[Manifest]:
    """Run every stage that is not done yet; the manifests of the delivered models.

    If no candidate keeps the limits, the one that misses them by the least is delivered.

    Raises:
        FailedError: no candidate can be scored.
    """
    with following(_job(run)) as job:
        for step in STEPS:
            allot(run, step.stage)
            if not step.wanted(run.config) or (step.stage in CHOOSING and chosen_before(run)):
                continue
            if run.folder.rates.exists():
                rates = expected_rates(run)
                coming = {other.stage: other.seconds(rates) for other in steps_of(rates.config)}
                job.expect(coming, ending(run, coming))
            step.run(run)
        settle(run)
        build_report(run.folder)
    return [m for side in run.sides.values() for m in manifests(side.folder.pareto)]


def steps_of(config: RunConfig) -> list[Step]:
    """The stages of a run, in order."""
    return [step for step in STEPS if step.wanted(config)]


@contextmanager
def beside_search(run: Run) -> Generator[None]:
    """Let whoever watches a run see what is done beside its search, such as a comparison."""
    with following(_job(run, whole=False)):
        if lengths := unchosen(run):
            log.warning(
                "budget: %s divides the time of a search; what is done beside one goes by %s: "
                "search first, or set what is to be shorter",
                run.config.budget,
                ", ".join(f"{key} {value:g}" for key, value in lengths.items()),
            )
        yield


def _job(run: Run, whole: bool = True) -> Job:
    """All stages, those that ended before included."""
    folder, config = run.folder, run.config
    known = read_json(folder.stages) if folder.begun else {}
    cpu = torch_device().type == "cpu"  # others wait for a GPU
    here = [Stage.START, Stage.TEACHER] if cpu else []
    if here and config.supernet.workers == 1:
        here.append(Stage.SUPERNET)
    if here and config.executor.kind == "local" and config.executor.workers == 1:
        here += [Stage.LIBRARY, Stage.FORECAST, Stage.FINISHING]
    ended = {name: facts["seconds"] for name, facts in known.items()}
    return Job(folder, [step.stage for step in steps_of(config)], ended, here, whole)


def read_images(run: Run) -> None:
    """Read the images, and time some steps of what will be done with them.

    Raises:
        ConfigError: the budget does not suffice for anything.
    """
    run.ensure_data()
    refuse_too_small(run)


def search_candidates(run: Run) -> None:
    """Search: propose candidates, score them, and log each evaluation."""
    config, search, folder = run.config, run.config.search, run.folder
    objectives, costs = search.resolve(), run.price
    _, expected = expected_best(run)
    if words := expectation(run.space.sample(SEEN, search.seed)):
        log.info("search: %s", words)
    if missed := misses(expected, objectives):
        log.warning(
            "search: hardly any candidate can keep the limits: the nearest one that was found "
            "is predicted to have %s",
            missed,
        )
    task = Task(run.space, objectives, costs, search.seed, search.trials)
    run.ensure_scorers()  # trained in earlier stages of their own
    with running(folder, Stage.SEARCH) as facts, open_executor(config.executor) as executor:
        driver = read_json(folder.environment)["run"] if search.storage else ""
        sampler = Sampler(search.sampler, task, folder.journal, search.storage, driver)
        study = Study(task, sampler, run.scoring(executor, folder.evaluations), window(config))
        ending = study.run(Until(search.trials, seconds=search.max_s, patience=search.patience))
        facts |= {
            "ended by": ending,
            "trials": study.told,
            "scored": len(study.scoring.log),
            "hypervolume": study.archive.volume,
        }
    if not pareto_front(scored(run), objectives):
        add_nearest(run)


def add_nearest(run: Run) -> None:
    """Score the candidate predicted to miss the limits by the least, if none keeps them.

    Raises:
        FailedError: it cannot be scored.
    """
    candidate, costs = expected_best(run)
    evaluations = EvaluationLog(run.folder.evaluations, again=True)
    evaluations.append(evaluate(run.ensure_scorers()[1.0], candidate, costs))
    if not scored(run):
        raise FailedError(f"{run.folder.path}: no candidate could be scored; log.txt says why")


def expected_best(run: Run) -> tuple[Candidate, Mapping[str, float]]:
    """The candidate whose predicted costs are nearest to the limits, and these costs."""
    search = run.config.search
    return nearest(run.space, search.resolve(), run.price, search.seed)


def finish(run: Run) -> None:
    """Train each finalist alone, and make its artifact for each device."""
    waiting = [e for e in finalists(run) if sides_without(run, e)]
    if waiting:
        _ = run.inherited  # what it loads has stages of its own
    with running(run.folder, Stage.FINISHING):
        _finish(run, waiting, finishing_pace(run, waiting) if waiting else None)


def sides_without(run: Run, evaluation: Evaluation) -> list[Run]:
    """The run on each device for which a finalist has no artifact."""
    sides = run.sides.values()
    return [side for side in sides if not delivered(side.folder.pareto, evaluation.key)]


def _finish(run: Run, waiting: Sequence[Evaluation], pace: Pace | None) -> None:
    if not waiting:
        return
    config, tuning, first = run.config, run.tuning, next(iter(run.sides))
    slow_first = sorted(waiting, key=lambda e: -e.on(first).metrics["latency_ms"])  # to train, too
    new = {e.key: e for e in slow_first}
    usual = config.finish.ways[-1]  # of what rounds nothing, too
    to_train: dict[tuple[str, str], Finalist] = {}
    for number, e in enumerate(new.values(), 1):
        for way, candidate in trained_as(e.candidate, config.finish.ways).items():
            network = start_network(run.inherited, candidate, run.calibration, tuning)
            kept = run.on(first).folder.training_of(e.key, "" if way == usual else way)
            name = f"{number} of {len(new)}" + f" ({way})" * (len(config.finish.ways) > 1)
            finalist = Finalist(candidate, network, kept, name, way == "direct")
            to_train[e.key, way] = finalist
            if pace:
                pace.know(finalist.key, e.key)

    costs = {name: side.costs for name, side in run.sides.items()}
    terms = {
        name: terms_of(side, partial(is_over, run), {n: c for n, c in costs.items() if n != name})
        for name, side in run.sides.items()
    }
    with open_executor(config.executor) as executor:
        workers = config.executor.workers
        every = [*to_train.values()]
        trained = train_finalists(every, tuning, executor, workers, pace=pace)
    for found in new.values():
        done = {w: f for (key, w), f in to_train.items() if key == found.key and f in trained}
        if not done:
            continue
        took = {way: (f.network, tuning.seconds(f)) for way, f in done.items()}
        chosen = choose(found.candidate, took, terms[first])
        for side in sides_without(run, found):
            name, network = side.folder.device, deepcopy(chosen.network)
            deliver(
                side.folder.pareto,
                found.on(name),
                network,
                terms[name],
                ways=chosen.trials,
                corrected=chosen.compensate,
            )
        for finalist in done.values():
            finalist.kept.unlink(missing_ok=True)


def verify(run: Run) -> None:
    """Measure the artifacts on their devices, and check their promises."""
    with running(run.folder, Stage.VERIFICATION):
        for side in run.sides.values():
            verify_new(side.folder, side.device, run.data)
        test_all_once([(side.folder, side.device) for side in run.sides.values()], run.data)


STEPS = (
    Step(
        Stage.DATA,
        read_images,
        lambda r: f"{r.images:,} images, read once",
    ),
    Step(
        Stage.CALIBRATION,
        Run.ensure_cost_models,
        lambda r: ", ".join(
            str(given_model(device) or f"sub-blocks and whole networks on {device.label}")
            for device in r.config.devices
        ),
    ),
    Step(
        Stage.START,
        Run.ensure_start,
        lambda r: (
            f"{r.config.start.model}: {r.steps(r.config.start.adapt):,} steps of "
            f"{r.config.start.adapt.batch_size} images"
        ),
        lambda config: bool(config.start.model),
    ),
    Step(
        Stage.TEACHER,
        Run.ensure_lessons,
        lambda r: (
            r.config.teacher.model
            or (r.config.start.model and "the start answers")
            or f"{r.steps(r.config.teacher):,} steps of {r.config.teacher.batch_size} images"
        ),
    ),
    Step(
        Stage.LIBRARY,
        Run.ensure_library,
        lambda r: f"{r.options} mixers that imitate those of the start, and its order of blocks",
        lambda config: bool(config.start.model),
    ),
    Step(
        Stage.SUPERNET,
        Run.ensure_supernet,
        lambda r: f"{r.steps(r.config.supernet):,} steps of {r.config.supernet.batch_size} images",
        lambda config: config.has_supernet,
    ),
    Step(
        Stage.FORECAST,
        Run.ensure_forecast,
        lambda r: (
            f"{r.config.forecast.candidates} short trainings of {r.config.forecast.steps} steps"
        ),
        lambda config: config.forecast.candidates > 0,
    ),
    Step(
        Stage.SEARCH,
        search_candidates,
        lambda r: f"at most {r.config.search.trials:,} trials by {r.config.search.sampler}",
    ),
    Step(
        Stage.SHORTLIST,
        measure_front,
        lambda r: (
            f"at most {SHORT * r.config.finish.finalists} networks of the front on "
            f"{r.config.device_label}"
        ),
    ),
    Step(
        Stage.FINISHING,
        finish,
        lambda r: f"{r.config.finish.finalists} models, {r.steps(r.config.finish):,} steps each",
    ),
    Step(
        Stage.VERIFICATION,
        verify,
        lambda r: f"{r.config.finish.finalists} artifacts on {r.config.device_label}",
    ),
    Step(
        Stage.REFERENCE,
        measure_reference,
        lambda r: (
            "the start in float32, also in PyTorch and in int8"
            if r.config.start.model
            else "the largest network of the space in float32, also in PyTorch"
        ),
    ),
)
