"""Estimates: how long the stages of a run take, from the durations of their steps.

What is no training consists of processes that export, load and time, and so takes a multiple of
what starting one takes; the multiples were counted on two machines, busy and idle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ...cost_models.measure.bench import MODELS
from ..delivery.shortlist import SHORT
from ..library.options import BATCH as OPTION_BATCH
from ..library.options import STEPS as OPTION_STEPS
from ..scoring.lift import RANKS
from .devices import given_model
from .rates import Rates
from .stages import Stage

ANSWER = 1 / 3  # of a training step, an answer without gradients
START = 7.0  # starts of a process, to start one that computes, torch included
CALIBRATE = 50.0  # to measure what no cost model can do without
SESSION = 6.0  # to time a set of networks ...
EACH = 1.0  # ... and for each of them
DELIVER = 6.0  # to export, calibrate and check one model
VERIFY = 8.0  # to load, time and measure the memory of one model
REFERENCE = 12.0 + START  # and a process in which PyTorch runs it
PROPOSE = 0.07  # to propose a candidate and price it


def calibration_s(rates: Rates) -> float:
    """Of measuring the devices."""
    least_s = CALIBRATE * rates.process_s
    measured = [device for device in rates.config.devices if not given_model(device)]
    return sum((max(device.calibrate_s, least_s) for device in measured), 0.0)


def start_s(rates: Rates) -> float:
    """Of adapting the start: one view for its head, others for all of it, and its judgments."""
    config = rates.config.start.adapt
    if not (rates.config.start.model and config.epochs):
        return 0.0
    step_s, passes = rates.start_step_s, rates.steps(config) / config.epochs
    judged = (config.epochs + 2) * rates.validation_images / config.batch_size
    answered = ANSWER * step_s * (passes + judged)
    adapted = rates.start_work * step_s * rates.steps(config)
    return adapted + answered + rates.view_s * (1 + config.epochs)


def teacher_s(rates: Rates) -> float:
    """Of training the teacher, which sees a new view in every pass, and of its answers."""
    config = rates.config.teacher
    trained = rates.teacher_step_s * rates.steps(config)
    views = 0 if rates.config.start.model or config.model else config.epochs
    return trained + rates.view_s * views + lessons_s(rates)


def lessons_s(rates: Rates) -> float:
    """Of the teacher's answers to all views."""
    return rates.views * (rates.answer_s + rates.view_s)


def library_s(rates: Rates) -> float:
    """Of training stand-ins for mixers, and of leaving out blocks one by one."""
    config = rates.config
    if not config.start.model:
        return 0.0
    image_s = rates.start_step_s / config.start.adapt.batch_size
    taught = rates.options * OPTION_STEPS * OPTION_BATCH * image_s / rates.blocks
    rivals = rates.blocks**2 / 2 * rates.imitated_on * ANSWER * image_s
    return started_s(rates) + (taught + rivals) / config.executor.workers


def supernet_s(rates: Rates) -> float:
    """Of training the shared weights."""
    if not rates.config.has_supernet:
        return 0.0
    config = rates.config.supernet
    step_s = config.alone * rates.largest_step_s + (1 - config.alone) * rates.supernet_step_s
    return step_s * rates.steps(config) + rates.view_s * rates.fresh_views(config.epochs)


def forecast_s(rates: Rates) -> float:
    """Of the short trainings; beside a start candidates are assembled before, and judged."""
    config = rates.config
    steps, each = config.forecast.steps, config.forecast.candidates / config.executor.workers
    if not each:
        return 0.0
    cut = bool(config.start.model)
    recipe, step_s = config.proxy, rates.short_step_s
    if cut:
        recipe, step_s = config.finish, rates.finish_step_s
    passes = steps * recipe.batch_size / rates.train_images
    views = each * passes
    if rates.kept_views:  # those of the first training serve all others of a worker
        views = min(views, float(math.ceil(passes)))
    # Beside a start assembled and judged after each pass; else judged once, by other images.
    judged = rates.judge_s * rates.search_images / rates.validation_images
    if cut:
        judged = rates.score_s + rates.judge_s * math.ceil(passes)
    trained = (step_s * steps + judged) * each + rates.view_s * views
    if config.search.goal in config.search.limits and not config.budget_s:
        trained += math.ceil(len(RANKS) / config.executor.workers) * finalist_s(rates)
    return started_s(rates) + trained


def search_s(rates: Rates) -> float:
    """Of proposing and scoring candidates."""
    each_s = PROPOSE * rates.process_s + rates.score_s / rates.config.executor.workers
    return started_s(rates) + each_s * rates.config.search.trials


def shortlist_s(rates: Rates) -> float:
    """Of measuring some networks of the front, on each device."""
    networks, devices = SHORT * rates.config.finish.finalists, len(rates.config.devices)
    return (SESSION * math.ceil(networks / MODELS) + EACH * networks) * rates.process_s * devices


def finishing_s(rates: Rates) -> float:
    """Of training what is delivered, and making its artifacts."""
    config = rates.config
    count, workers = config.finish.finalists, config.executor.workers
    turns = math.ceil(count * len(config.finish.ways) / workers)
    artifacts = count * len(config.devices)
    return started_s(rates) + turns * finalist_s(rates) + artifact_s(rates) * artifacts


def artifact_s(rates: Rates) -> float:
    """Of making one artifact and comparing its answers."""
    return DELIVER * rates.process_s + rates.judge_s


def finalist_s(rates: Rates) -> float:
    """Of training one model alone; once its bits are down it is judged after every pass."""
    config = rates.config.finish
    judged = (1 - config.ramp) * config.epochs
    trained = rates.finish_step_s * rates.steps(config) + rates.judge_s * judged
    return trained + rates.view_s * rates.fresh_views(config.epochs)


def verification_s(rates: Rates) -> float:
    """Of running the artifacts on their devices, also on all validation and test images."""
    config = rates.config
    others = rates.train_images + rates.search_images  # all but these are answered
    answered = rates.judge_s * max(1.0, (rates.images - others) / rates.validation_images)
    each = VERIFY * rates.process_s + answered
    return each * config.finish.finalists * len(config.devices)


def reference_s(rates: Rates) -> float:
    """Of measuring the start or the largest network."""
    return REFERENCE * rates.process_s * len(rates.config.devices)


def started_s(rates: Rates) -> float:
    """Of starting the workers, which a single local one does not need."""
    executor = rates.config.executor
    alone = executor.workers == 1 and executor.kind == "local"
    return 0.0 if alone else START * rates.process_s


SECONDS: Mapping[Stage, Callable[[Rates], float]] = {
    Stage.DATA: lambda rates: rates.reading_s,
    Stage.CALIBRATION: calibration_s,
    Stage.START: start_s,
    Stage.TEACHER: teacher_s,
    Stage.LIBRARY: library_s,
    Stage.SUPERNET: supernet_s,
    Stage.FORECAST: forecast_s,
    Stage.SEARCH: search_s,
    Stage.SHORTLIST: shortlist_s,
    Stage.FINISHING: finishing_s,
    Stage.VERIFICATION: verification_s,
    Stage.REFERENCE: reference_s,
}  # in order
