"""Budget: the lengths of a run are chosen stage by stage, from the time that is left.

Each stage is decided when it begins, from steps timed then, and written down: a resumed run takes
the same. What is chosen says `planning`. The training of what is delivered also keeps to the time
while it goes, see `training.pace`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...spaces.errors import ConfigError
from ..durations import duration_text
from ..scoring.evaluation import Evaluation
from ..store.atomic_files import read_json, write_json
from ..training.pace import Limit, Pace, makespan
from .assets import Run
from .estimates import SECONDS, artifact_s, lessons_s, started_s
from .inheriting import READY, begin_anew, is_spare, rate_of_new, without_supernet
from .lengths import KEYS, MOST
from .planning import (
    REPORT_S,
    Values,
    allotted_s,
    check_budget,
    choose,
    free_keys,
    planned,
    within,
)
from .rates import Rates, candidate_durations, durations
from .stages import Stage

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
LEAST_SHARE = 0.5  # of the time that new models need, from which they are kept to what is left
AGAIN = 0.05  # of the time for training, kept for models that need steps back

log = logging.getLogger("vitpareto")


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
    # How long models are finished is chosen later, when these are known.
    free = [] if stage is Stage.FINISHING else free_keys(run.config, keys, stage)
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


def unchosen(run: Run) -> dict[str, Any]:
    """Lengths, by key, that a budget would choose for stages up to the search, and did not yet.

    They hold where something is done beside a search: its stages are made for that, and a budget
    divides the time of a whole one. None in a run without a budget.
    """
    if not run.config.budget_s or not run.folder.budget.exists():
        return {}
    ended = read_json(run.folder.stages) if run.folder.begun else {}
    coming = [
        s for s in _coming(ended) if s in KEYS and s not in (Stage.SHORTLIST, Stage.FINISHING)
    ]
    keys = _undecided(read_json(run.folder.budget))
    return {key: run.config.value_of(key) for s in coming for key in KEYS[s] if key in keys}


def _coming(ended: Collection[str]) -> list[Stage]:
    return [stage for stage in Stage if stage not in ended]


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
    left -= started_s(rates) + artifact_s(rates) * len(chosen) * len(config.devices)
    training = (1 - AGAIN) * left

    def a_pass_s(some: Mapping[str, float]) -> float:
        slow_first = sorted([*some.values()] * len(config.finish.ways), reverse=True)
        return makespan([], slow_first, config.executor.workers)

    if Stage.FINISHING in known["chosen"]:  # and a process was stopped, or more models are wanted
        first = next(iter(run.sides.values())).folder
        new = {key: s for key, s in passes.items() if not any(first.trainings_of(key))}
        needed = config.finish.epochs * a_pass_s(new) if new else 0.0
        if new and training < LEAST_SHARE * needed:
            log.info(
                "budget: %s does not leave the %s that models need which were chosen later: they "
                "make all their passes",
                config.budget,
                duration_text(needed),
            )
            return None
    else:
        one = a_pass_s(passes)
        values: Values = {"finish.epochs": within("finish.epochs", training / one)}
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
    known, took_s = read_json(kept), spent_s(run)
    if "took_s" in known:
        here_s = sum(s["seconds"] for s in read_json(run.folder.stages).values()) - run.before_s
        if here_s < 1.0:  # nothing was left to do
            return
        took_s = known["took_s"] + time.monotonic() - run.begun
    for chosen in known["chosen"].values():  # some were changed on the way
        chosen["values"] = {key: run.config.value_of(key) for key in chosen["values"]}
    values = {k: v for chosen in known["chosen"].values() for k, v in chosen["values"].items()}
    short = sorted((v / MOST[k], k) for k, v in values.items() if v < MOST.get(k, 0))
    more = ", ".join(f"{key} ({values[key]} of up to {MOST[key]})" for _, key in short)
    known["took_s"] = round(took_s)
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
