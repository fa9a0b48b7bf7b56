"""Planning: the lengths that a budget chooses, from what steps take and the time that is left.

Lengths that the configuration gives are kept. Each stage has a share of the time that the others
leave; the training of what is delivered comes last and has the largest.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...spaces.errors import ConfigError
from ..config import CUT_EXAMPLES, FEWEST_EXAMPLES, RunConfig
from ..durations import duration_text
from .devices import given_model
from .estimates import CALIBRATE, SECONDS, started_s
from .inheriting import READY, WITHOUT, begin_anew, is_spare, rate_of_new, without_supernet
from .lengths import KEYS, LEAST, MOST, choosable
from .rates import VIEWS, Rates
from .stages import Stage

# Shares of the time that is left for these stages. On 3,781 photos of clothes more passes of the
# finalists brought the most accuracy, and a better teacher came next. A start is the teacher, and
# cut networks need few passes to come near it: 2 of 40 steps took them to 0.6 points below.
SHARES = {
    Stage.CALIBRATION: 0.05,
    Stage.START: 0.30,
    Stage.TEACHER: 0.16,
    Stage.SUPERNET: 0.13,
    Stage.FORECAST: 0.16,
    Stage.SEARCH: 0.10,
    Stage.FINISHING: 0.50,
}
ENOUGH, ENOUGH_CUT = 15, 6  # passes for which more finalists are taken; of those cut from a start
REPORT_S = 5.0  # to write the report

log = logging.getLogger("vitpareto")

Values = dict[str, Any]


def check_budget(rates: Rates, keys: Sequence[str], spent: float, asked: bool) -> None:
    """Check that a budget suffices for the least that makes sense.

    Args:
        rates: of the run.
        keys: that it may choose.
        spent: seconds so far.
        asked: whether somebody gave it; else it is only said that it does not suffice.

    Raises:
        ConfigError: naming the least that works.
    """
    config = rates.config
    least = {key: LEAST[key] for key in keys if key in LEAST}
    least |= WITHOUT if is_spare(config, keys) else {}
    smallest = replace(rates, config=config.with_values(least))
    needed = spent + REPORT_S + sum(SECONDS[stage](smallest) for stage in list(Stage)[1:])
    if needed <= config.budget_s:
        return
    least = duration_text(60 * math.ceil(needed / 60))
    given = sorted(set(choosable(config)) - set(keys))
    also = f", with {', '.join(given)} as given" if given else ""
    text = (
        f"budget: {config.budget} is too short for {rates.images:,} images on this machine, as "
        f"busy as it is now{also}: the least is {least}"
    )
    if asked:
        raise ConfigError(text)
    log.warning("%s, which it will take; see data.limit and --budget", text)


def planned(
    rates: Rates, keys: Sequence[str], spent: float, stages: Iterable[Stage] = Stage
) -> RunConfig:
    """The configuration that a budget would choose if all took as long as estimated.

    Args:
        rates: with the configuration so far.
        keys: that may be chosen.
        spent: seconds so far.
        stages: that are to come.
    """
    stages, known = list(stages), rates.config
    config = _planned(rates, keys, spent, stages)
    if config.has_supernet or not known.has_supernet:
        return config
    without = known.with_values(without_supernet(known, keys))
    return _planned(replace(rates, config=without), keys, spent, stages)


def _planned(rates: Rates, keys: Sequence[str], spent: float, stages: Sequence[Stage]) -> RunConfig:
    """Likewise, with whatever time is left when it turns out that there is no supernet."""
    for stage in stages:
        left = rates.config.budget_s - spent
        if stage in KEYS:
            chosen = choose(rates, keys, stage, left)
            rates = replace(rates, config=rates.config.with_values(chosen))
        spent += SECONDS[stage](rates)
    return rates.config


def choose(rates: Rates, keys: Sequence[str], stage: Stage, left_s: float) -> Values:
    """Lengths of a stage, by key; none if all of them are given.

    Args:
        rates: as they are now, with the configuration so far.
        keys: that may be chosen.
        stage: that is to begin.
        left_s: seconds until the end of the budget.
    """
    wanted = free_keys(rates.config, keys, stage)
    if not wanted:
        return {}
    if stage is Stage.SHORTLIST:
        return {"finish.finalists": _finalists(rates, keys, left_s)}
    share = allotted_s(rates, keys, stage, left_s)
    if stage is Stage.FORECAST:
        chosen = _forecast(rates, wanted, share)
    elif stage is Stage.CALIBRATION:
        chosen = {wanted[0]: max(share, CALIBRATE / 2 * rates.process_s)}
    else:
        chosen = {wanted[0]: _passes(rates, wanted[0], stage, share)}
    values: Values = {key: within(key, value) for key, value in chosen.items()}
    config = rates.config
    if stage is Stage.SUPERNET and is_spare(config, keys):
        enough = config.finish.inherit and values["supernet.epochs"] >= READY
        return values if enough else without_supernet(config, keys)
    if stage is Stage.FINISHING and begin_anew(config):
        values |= rate_of_new(config, keys)
    return values


def allotted_s(rates: Rates, keys: Sequence[str], stage: Stage, left_s: float) -> float:
    """Seconds that a stage may take: its share of what others whose lengths are given leave."""
    later = list(Stage)[list(Stage).index(stage) :]
    flexible = [s for s in later if s in SHARES and free_keys(rates.config, keys, s)]
    fixed = sum(SECONDS[s](rates) for s in later if s not in flexible)
    whole = sum(SHARES[s] for s in flexible) or 1.0
    return max(0.0, left_s - fixed - REPORT_S) * SHARES.get(stage, 0.0) / whole


def within(key: str, value: float) -> int:
    """A length as a whole number between the least and the most that make sense."""
    return min(max(int(value), LEAST[key]), MOST[key])


def free_keys(config: RunConfig, keys: Sequence[str], stage: Stage) -> list[str]:
    """Keys that are to be chosen for a stage; none where it has nothing to do."""
    idle = {
        Stage.CALIBRATION: all(map(given_model, config.devices)),
        Stage.START: not config.start.model,
        Stage.TEACHER: bool(config.teacher.model or config.start.model),
        Stage.SUPERNET: not config.has_supernet,
        Stage.FORECAST: not config.forecast.candidates,
    }
    return [] if idle.get(stage) else [key for key in KEYS[stage] if key in keys]


def _passes(rates: Rates, key: str, stage: Stage, share_s: float) -> float:
    """Passes of a training that fit into a time, of which the estimate is nearly linear in them."""
    configs = (rates.config.with_values({key: passes}) for passes in (VIEWS, 2 * VIEWS))
    one, two = (SECONDS[stage](replace(rates, config=config)) for config in configs)
    return VIEWS + (share_s - one) * VIEWS / (two - one)


def _forecast(rates: Rates, keys: Sequence[str], share_s: float) -> Mapping[str, float]:
    """Candidates, and eight times as many steps of each: their length matters more."""
    workers, given = rates.config.executor.workers, rates.config.forecast
    tried = {"forecast.candidates": FEWEST_EXAMPLES * workers, "forecast.steps": 100}
    trained = SECONDS[Stage.FORECAST](replace(rates, config=rates.config.with_values(tried)))
    started = started_s(rates)
    step_s = (trained - started) / (100 * FEWEST_EXAMPLES * workers)
    steps = max(0.0, share_s - started) / step_s
    candidates = within("forecast.candidates", math.sqrt(steps / 8))
    if rates.config.start.model:
        candidates = min(candidates, CUT_EXAMPLES)
    if "forecast.candidates" not in keys:
        return {"forecast.steps": steps / given.candidates}
    if "forecast.steps" not in keys:
        most = CUT_EXAMPLES if rates.config.start.model else MOST["forecast.candidates"]
        return {"forecast.candidates": min(most, steps / given.steps)}
    return {"forecast.candidates": candidates, "forecast.steps": steps / candidates}


def _finalists(rates: Rates, keys: Sequence[str], left_s: float) -> int:
    """As many models as can be trained long enough; no worker idles."""
    workers = rates.config.executor.workers
    enough = ENOUGH_CUT if rates.config.start.model else ENOUGH
    for count in range(MOST["finish.finalists"], 1, -1):
        if count > workers and count % workers:
            continue
        with_count = replace(rates, config=rates.config.with_values({"finish.finalists": count}))
        share = allotted_s(with_count, keys, Stage.FINISHING, left_s)
        passes = _passes(with_count, "finish.epochs", Stage.FINISHING, share)
        if passes >= enough or count == max(2, min(workers, 4)):
            return count
    return 1
