"""Budget: the lengths of a run are chosen stage by stage, from the time that is left.

Each stage is decided when it begins, from steps timed then, and written down: a resumed run takes
the same. Lengths that the configuration gives are kept. The training of what is delivered comes
last and has the largest share; it also keeps to the time while it goes, see `training.pace`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...spaces.errors import ConfigError
from ..config import CUT_EXAMPLES, FEWEST_EXAMPLES, RunConfig
from ..durations import duration_text
from ..scoring.evaluation import Evaluation
from ..store.atomic_files import read_json, write_json
from ..training.pace import Limit, Pace, makespan
from .assets import Run
from .devices import given_model
from .estimates import CALIBRATE, DELIVER, SECONDS, lessons_s, started_s
from .inheriting import READY, WITHOUT, begin_anew, is_spare, rate_of_new, without_supernet
from .lengths import KEYS, LEAST, MOST, choosable
from .rates import VIEWS, Rates, candidate_durations, durations
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
FRESH: Mapping[Stage, tuple[str, ...]] = {
    Stage.START: ("process_s", "start_step_s", "view_s", "answer_s"),
    Stage.TEACHER: ("process_s", "teacher_step_s", "view_s", "answer_s"),
    Stage.SUPERNET: ("process_s", "supernet_step_s", "largest_step_s", "view_s"),
    Stage.FORECAST: ("process_s", "short_step_s", "view_s"),
    Stage.SEARCH: ("process_s", "score_s"),
    Stage.SHORTLIST: ("process_s", "finish_step_s", "judge_s", "view_s"),
}  # durations that are timed again before a stage is decided
CUT_FRESH = ("process_s", "finish_step_s", "judge_s", "score_s", "view_s")  # of a forecast, too
LIMITED = (Stage.TEACHER, Stage.SUPERNET, Stage.FORECAST)  # that keep to their share as they go
FULL = 0.95  # share of a budget from which a plan fills it
ENOUGH, ENOUGH_CUT = 15, 6  # passes for which more finalists are taken; of those cut from a start
AGAIN = 0.05  # of the time for training, kept for models that need steps back
REPORT_S = 5.0  # to write the report

log = logging.getLogger("vitpareto")

Values = dict[str, Any]


def refuse_too_small(run: Run) -> None:
    """Time the steps of a run with a budget, and end it if it has not enough for anything.

    A budget that nobody asked for is a wish: then all takes its least length.

    Raises:
        ConfigError: it has not; the folder is left as it was.
    """
    last = (side.folder.reference.exists() for side in run.sides.values())  # of the last stage
    if any(last):
        return
    rates = run.ensure_rates()
    calibrated = (side.folder.cost_model.exists() for side in run.sides.values())
    if not run.config.budget_s or any(calibrated):
        return
    known = read_json(run.folder.budget)
    try:
        check_budget(rates, known["open"], spent_s(run), known["asked"])
    except ConfigError:
        run.folder.discard()
        raise


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


def spent_s(run: Run) -> float:
    """Seconds of a run so far, those of earlier processes included."""
    return run.before_s + time.monotonic() - run.begun


def allot(run: Run, stage: Stage) -> None:
    """Choose the lengths of a stage, if its run has a budget and they are not known yet.

    Before any other, it is chosen whether there will be a supernet, as its time goes to them.
    """
    run.limit = None
    if not run.config.budget_s or stage not in KEYS or not run.folder.budget.exists():
        return
    if stage in read_json(run.folder.stages):
        return
    _spare_supernet(run)
    known = read_json(run.folder.budget)
    keys, is_chosen = known["open"], stage in known["chosen"]
    free = [] if stage is Stage.FINISHING else _free(run.config, keys, stage)  # that is timed later
    is_limited = stage in LIMITED and KEYS[stage][0] in free
    if not free or (is_chosen and not is_limited):
        return
    names = FRESH.get(stage, ())
    if stage is Stage.FORECAST and run.config.start.model:
        names = CUT_FRESH
    measured = run.ensure_rates()
    now = durations(run.config, run.space, run.data, names, measured.crowding)
    rates = replace(measured, **now)
    left = run.config.budget_s - spent_s(run)
    share = allotted_s(rates, keys, stage, left)
    if not is_chosen:
        part = f"{share:.0f} s of the " if share else ""
        values = choose(rates, keys, stage, left)
        _decide(run, stage, values, f"for {part}{left:.0f} s that are left")
    if is_limited:
        after = lessons_s(rates) if stage is Stage.TEACHER else 0.0
        run.limit = Limit(time.monotonic() + share - after, MOST[KEYS[stage][0]])


def _spare_supernet(run: Run) -> None:
    """Decide against a supernet that its budget could not train long enough."""
    known, ended = read_json(run.folder.budget), read_json(run.folder.stages)
    keys, is_decided = _undecided(known), Stage.SUPERNET in {*known["chosen"], *ended}
    if is_decided or not is_spare(run.config, keys):
        return
    plan = planned(run.ensure_rates(), keys, spent_s(run), _coming(ended))
    if not plan.has_supernet:
        why = f"as fewer than {READY} passes, for which there is time, teach it too little"
        _decide(run, Stage.SUPERNET, without_supernet(run.config, keys), why)


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


def expected_rates(run: Run) -> Rates:
    """Rates of a run with the lengths that it has, and those that its budget would choose next."""
    rates, kept = run.ensure_rates(), run.folder.budget
    if not run.config.budget_s or not kept.exists():
        return rates
    coming = _coming(read_json(run.folder.stages))
    return replace(rates, config=planned(rates, _undecided(read_json(kept)), spent_s(run), coming))


def ending(run: Run, seconds: Mapping[Stage, float]) -> float | None:
    """When a run will end, of `time.monotonic`, as it keeps to its budget by what is to come.

    None where it has none, or where that cannot fill it, or takes longer in any case.

    Args:
        run: with a budget or without.
        seconds: that its stages are expected to take.
    """
    kept, ended = run.folder.budget, read_json(run.folder.stages)
    if not run.config.budget_s or not kept.exists() or Stage.FINISHING in ended:
        return None
    if "finish.epochs" not in read_json(kept)["open"]:
        return None
    left = run.config.budget_s - spent_s(run)
    needed = sum(seconds[stage] for stage in _coming(ended) if stage in seconds)
    return time.monotonic() + left if FULL * left <= needed <= left / FULL else None


def _undecided(known: Mapping[str, Any]) -> list[str]:
    """Keys that a budget is still to choose, by its file."""
    decided = {key for chosen in known["chosen"].values() for key in chosen["values"]}
    return [key for key in known["open"] if key not in decided]


def _coming(ended: Collection[str]) -> list[Stage]:
    return [stage for stage in Stage if stage not in ended]


def choose(rates: Rates, keys: Sequence[str], stage: Stage, left_s: float) -> Values:
    """Lengths of a stage, by key; none if all of them are given.

    Args:
        rates: as they are now, with the configuration so far.
        keys: that may be chosen.
        stage: that is to begin.
        left_s: seconds until the end of the budget.
    """
    wanted = _free(rates.config, keys, stage)
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
    values: Values = {key: _within(key, value) for key, value in chosen.items()}
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
    flexible = [s for s in later if s in SHARES and _free(rates.config, keys, s)]
    fixed = sum(SECONDS[s](rates) for s in later if s not in flexible)
    whole = sum(SHARES[s] for s in flexible) or 1.0
    return max(0.0, left_s - fixed - REPORT_S) * SHARES.get(stage, 0.0) / whole


def _within(key: str, value: float) -> int:
    return min(max(int(value), LEAST[key]), MOST[key])


def _free(config: RunConfig, keys: Sequence[str], stage: Stage) -> list[str]:
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
    candidates = _within("forecast.candidates", math.sqrt(steps / 8))
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


def finishing_pace(run: Run, chosen: Sequence[Evaluation]) -> Pace | None:
    """Choose how long models are trained alone, and what keeps them to the time.

    Nothing does in a run without a budget, or with a given number of passes.

    Args:
        run: whose configuration is changed.
        chosen: models to train.
    """
    config, kept = run.config, run.folder.budget
    if not config.budget_s or not kept.exists():
        return None
    known = read_json(kept)
    if "finish.epochs" not in known["open"]:
        return None
    names = ("finish_step_s", "judge_s")
    rates, about = run.ensure_rates(), (config, run.space, run.data)
    rates = replace(rates, **durations(*about, ["process_s"], rates.crowding))
    networks = [e.candidate for e in chosen]
    each = candidate_durations(*about, networks, names, rates.crowding)
    steps = rates.steps(config.finish) // config.finish.epochs
    view_s = 0.0 if rates.kept_views else rates.view_s
    passes = {
        key: steps * s["finish_step_s"] + (1 - config.finish.ramp) * s["judge_s"] + view_s
        for key, s in each.items()
    }
    left = run.config.budget_s - spent_s(run) - _after_s(rates)
    left -= started_s(rates) + DELIVER * rates.process_s * len(chosen)
    training = (1 - AGAIN) * left
    if Stage.FINISHING not in known["chosen"]:
        slow_first = sorted([*passes.values()] * len(config.finish.ways), reverse=True)
        one = makespan([], slow_first, config.executor.workers)
        values: Values = {"finish.epochs": _within("finish.epochs", training / one)}
        if begin_anew(config):
            values |= rate_of_new(config, known["open"])
        why = f"for {training:.0f} s, as far as the machine keeps its speed"
        _decide(run, Stage.FINISHING, values, why)
    end = time.monotonic() + training + started_s(rates)
    return Pace(end, {key: seconds / steps for key, seconds in passes.items()})


def is_over(run: Run) -> bool:
    """Whether no time is left to train a model again after a step back."""
    config = run.config
    if not config.budget_s or not run.folder.budget.exists():
        return False
    rates = run.ensure_rates()
    steps = config.finish.retrain_epochs * rates.steps(config.finish) / config.finish.epochs
    needed = _after_s(rates) + steps * rates.finish_step_s
    return config.budget_s - spent_s(run) < needed


def settle(run: Run) -> None:
    """Say what became of a budget, and what more time would buy."""
    kept = run.folder.budget
    if not run.config.budget_s or not kept.exists():
        return
    known = read_json(kept)
    if "took_s" in known:
        return
    for chosen in known["chosen"].values():  # some were changed on the way
        chosen["values"] = {key: run.config.value_of(key) for key in chosen["values"]}
    values = {k: v for chosen in known["chosen"].values() for k, v in chosen["values"].items()}
    short = sorted((v / MOST[k], k) for k, v in values.items() if v < MOST.get(k, 0))
    more = ", ".join(f"{key} ({values[key]} of up to {MOST[key]})" for _, key in short)
    known["took_s"] = round(spent_s(run))
    known["more"] = f"More time would go to {more}" if more else "More time would bring little"
    write_json(kept, known)
    took = duration_text(known["took_s"])
    log.info("budget: %s of %s were used. %s", took, run.config.budget, known["more"])


def _decide(run: Run, stage: Stage, values: Values, why: str) -> None:
    """Log a decision, keep it, and go by it."""
    known = read_json(run.folder.budget)
    log.info("budget: %s, %s", ", ".join(f"{key} {n}" for key, n in values.items()), why)
    known["chosen"][stage] = {"values": values, "why": why}
    run.change(run.config.with_values(values))  # first, as what was chosen is read from there
    write_json(run.folder.budget, known)


def _after_s(rates: Rates) -> float:
    """Seconds of what follows the finishing."""
    return REPORT_S + sum(SECONDS[s](rates) for s in (Stage.VERIFICATION, Stage.REFERENCE))
