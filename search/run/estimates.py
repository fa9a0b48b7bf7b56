"""Estimates: how long the stages of a run take, from the durations of their steps."""

from __future__ import annotations

import math

from ..library.options import BATCH as OPTION_BATCH
from ..library.options import STEPS as OPTION_STEPS
from ..training.start import IMAGES
from .rates import VIEWS, Rates

ANSWER = 1 / 3  # of a training step, an answer without gradients
START_S = 5.0  # to start a process that computes, torch included
SHORT_S = 0.5  # to export and time one network of the shortlist
DELIVER_S = 4.0  # to export, calibrate and check one model
VERIFY_S = 4.0  # to load, time and measure the memory of one model
REFERENCE_S = 8.0


def calibration_s(rates: Rates) -> float:
    """Of measuring the device."""
    wanted = rates.config.device
    return 0.0 if wanted.cost_model else wanted.calibrate_s


def start_s(rates: Rates) -> float:
    """Of adapting the start: one view for its head, others for all of it, and its judgments."""
    config = rates.config.start.adapt
    if not (rates.config.start.model and config.epochs):
        return 0.0
    step_s, passes = rates.start_step_s, rates.steps(config) / config.epochs
    judged = (config.epochs + 2) * rates.validation_images / config.batch_size
    answered = ANSWER * step_s * (passes + judged)
    return step_s * rates.steps(config) + answered + rates.view_s * (1 + config.epochs)


def teacher_s(rates: Rates) -> float:
    """Of training the teacher, which sees a new view in every pass, and of its answers."""
    config = rates.config.teacher
    trained = rates.teacher_step_s * rates.steps(config)
    views = 0 if rates.config.start.model or config.model else config.epochs
    return trained + rates.view_s * views + VIEWS * (rates.answer_s + rates.view_s)


def library_s(rates: Rates) -> float:
    """Of training stand-ins for mixers, and of leaving out blocks one by one."""
    config = rates.config
    image_s = rates.start_step_s / config.start.adapt.batch_size
    taught = rates.options * OPTION_STEPS * OPTION_BATCH * image_s / rates.blocks
    rivals = rates.blocks**2 / 2 * IMAGES[1] * ANSWER * image_s
    return started_s(rates) + (taught + rivals) / config.executor.workers


def supernet_s(rates: Rates) -> float:
    """Of training the shared weights."""
    config = rates.config.supernet
    step_s = config.alone * rates.largest_step_s + (1 - config.alone) * rates.supernet_step_s
    return step_s * rates.steps(config) + rates.view_s * rates.fresh_views(config.epochs)


def forecast_s(rates: Rates) -> float:
    """Of the short trainings."""
    config = rates.config
    if not config.examples:
        return 0.0
    steps = config.forecast.steps
    passes = steps * config.proxy.batch_size / rates.train_images
    views = config.examples * passes / config.executor.workers
    if rates.kept_views:  # those of the first training serve all others of a worker
        views = min(views, float(math.ceil(passes)))
    trained = rates.short_step_s * steps * config.examples / config.executor.workers
    return started_s(rates) + trained + rates.view_s * views


def search_s(rates: Rates) -> float:
    """Of proposing and scoring candidates."""
    return started_s(rates) + rates.trial_s * rates.config.search.trials


def shortlist_s(rates: Rates, networks: int) -> float:
    """Of measuring some networks of the front."""
    return SHORT_S * networks


def finishing_s(rates: Rates) -> float:
    """Of training what is delivered, and making its artifacts."""
    config = rates.config
    count, workers = config.finish.finalists, config.executor.workers
    turns = math.ceil(count / workers)
    return started_s(rates) + turns * finalist_s(rates) + DELIVER_S * count


def finalist_s(rates: Rates) -> float:
    """Of training one model alone; once its bits are down it is judged after every pass."""
    config = rates.config.finish
    judged = (1 - config.ramp) * config.epochs
    trained = rates.finish_step_s * rates.steps(config) + rates.judge_s * judged
    return trained + rates.view_s * rates.fresh_views(config.epochs)


def verification_s(rates: Rates) -> float:
    """Of running the artifacts on their device."""
    return VERIFY_S * rates.config.finish.finalists


def started_s(rates: Rates) -> float:
    """Of starting the workers, which a single local one does not need."""
    executor = rates.config.executor
    return START_S if executor.workers > 1 or executor.kind == "ray" else 0.0
