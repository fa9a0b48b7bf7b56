"""Budget: what it chooses, and that a machine whose speed swings does not break it.

Time is simulated here: stages take what the estimates say, times how slow the machine then is.
"""

from dataclasses import dataclass, replace

import pytest

from vitpareto.search.config import RunConfig, load_config
from vitpareto.search.durations import duration_text, parse_duration
from vitpareto.search.pipeline import STEPS
from vitpareto.search.run.budget import (
    LEAST,
    READY,
    allotted_s,
    begin_anew,
    check_budget,
    choose,
    planned,
)
from vitpareto.search.run.estimates import SECONDS, finalist_s
from vitpareto.search.run.lengths import KEYS, MOST, open_keys
from vitpareto.search.run.rates import TIMED, Rates
from vitpareto.search.run.stages import Stage
from vitpareto.search.training.checkpoint import State
from vitpareto.search.training.pace import Pace, makespan, resized
from vitpareto.spaces import ConfigError

SLOWNESS = {
    "steady": lambda s: 1.0,
    "swings every minute": lambda s: 1.0 + (s // 60) % 2,
    "swings slowly": lambda s: 1.0 + (s // 400) % 2,
    "slow at the end": lambda s: 1.0 + (s > 400),
    "fast at the end": lambda s: 2.0 - (s > 400),
}


def rates(*overrides: str) -> Rates:
    """As measured with 3,781 photos on two idle cores."""
    config = load_config(
        "digits", ["data.name=folder", "data.root=/photos", "executor.workers=2", *overrides]
    )
    raw = {name: value for name, value in config.model_dump().items() if name in ("space", "data")}
    raw |= {"executor": {"workers": 2}, "budget": config.budget}
    return Rates(
        images=3781,
        train_images=2551,
        validation_images=341,
        reading_s=6.0,
        view_s=1.6,
        kept_views=0,
        blocks=4,
        options=0,
        start_step_s=0.0,
        teacher_step_s=0.1,
        answer_s=1.5,
        supernet_step_s=0.6,
        largest_step_s=0.2,
        short_step_s=0.1,
        finish_step_s=0.15,
        judge_s=0.4,
        score_s=0.0,
        process_s=0.45,
        supernet_mb=2.6,
        teacher_mb=2.0,
        logits_mb=1.2,
        config=RunConfig.model_validate(raw),
    )


def with_budget(text: str, **values: float) -> Rates:
    known = rates()
    config = known.config.model_copy(update={"budget": text})
    return replace(
        known, config=config.with_values({k.replace("__", "."): v for k, v in values.items()})
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15min", 900), ("2h", 7200), ("1h30min", 5400)]
)
def test_durations_are_read_and_written(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "15", "min", "0s", "-5min", "15 hours", "1min2h", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s, 15min or 1h30min"):
        parse_duration(text)


def test_a_bare_number_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"--set budget=15: budget: .*got '15'; 15min\?"):
        load_config("digits", ["budget=15"])


def test_every_stage_has_an_estimate() -> None:
    assert list(SECONDS) == [step.stage for step in STEPS] == list(Stage)


@pytest.mark.parametrize("budget", ["6min", "15min", "25min", "2h"])
def test_a_plan_fills_its_budget_or_reaches_the_longest(budget: str) -> None:
    known = with_budget(budget)
    config = planned(known, open_keys(known.config), 0.0)
    took = sum(seconds(replace(known, config=config)) for seconds in SECONDS.values())
    longest = config.finish.epochs == MOST["finish.epochs"]
    assert took < 1.05 * config.budget_s
    assert longest or took > 0.85 * config.budget_s


def test_more_time_never_makes_a_stage_shorter() -> None:
    chosen = []
    for budget in ("6min", "12min", "25min", "50min"):
        known = with_budget(budget)
        config = planned(known, open_keys(known.config), 0.0)
        chosen.append((config.teacher.epochs, config.supernet.epochs, config.forecast.steps))
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]


def test_what_is_given_is_kept() -> None:
    known = with_budget("15min", teacher__epochs=7, finish__finalists=3)
    keys = open_keys(known.config)
    assert not {"teacher.epochs", "finish.finalists"} & set(keys)
    config = planned(known, keys, 0.0)
    assert (config.teacher.epochs, config.finish.finalists) == (7, 3)
    took = sum(seconds(replace(known, config=config)) for seconds in SECONDS.values())
    assert 0.85 * 900 < took < 1.05 * 900


def test_models_that_inherit_little_learn_as_fast_as_new_ones() -> None:
    assert begin_anew(rates("budget=20min").config.with_values({"supernet.epochs": 2}))
    assert not begin_anew(rates("budget=20min").config.with_values({"supernet.epochs": READY}))
    given = {"supernet.epochs": 2, "finish.lr": 3e-4}
    assert not begin_anew(rates("budget=20min").config.with_values(given))


def test_too_small_a_budget_is_refused_with_one_that_works() -> None:
    known = with_budget("1min")
    keys = open_keys(known.config)
    with pytest.raises(
        ConfigError, match=r"budget: 1min is too short .* the least is (\d+min)"
    ) as caught:
        check_budget(known, keys, 0.0, asked=True)
    least = str(caught.value).split()[-1]
    enough = with_budget(least)
    check_budget(enough, keys, 0.0, asked=True)
    config = planned(enough, keys, 0.0)
    took = sum(seconds(replace(enough, config=config)) for seconds in SECONDS.values())
    assert took < 1.05 * config.budget_s


@dataclass
class _Clock:
    now: float = 0.0

    def spend(self, seconds: float, how: str) -> None:
        """Let work go on that takes so long on an idle machine."""
        while seconds > 0:
            done = min(seconds, 1.0)
            self.now += done * SLOWNESS[how](self.now)
            seconds -= done


class _Paced(Pace):
    clock: _Clock

    @property
    def left_s(self) -> float:
        return self.end - self.clock.now


@pytest.mark.parametrize("budget", ["8min", "15min", "25min"])
@pytest.mark.parametrize("how", SLOWNESS)
def test_a_swinging_machine_keeps_the_budget_within_15_percent(how: str, budget: str) -> None:
    known, clock = with_budget(budget), _Clock()
    keys = open_keys(known.config)
    for stage in Stage:
        now = SLOWNESS[how](clock.now)
        slow = replace(known, **{name: now * getattr(known, name) for name in TIMED})
        left = known.config.budget_s - clock.now
        if stage is Stage.FINISHING:
            _finish(known, slow, clock, how, allotted_s(slow, keys, stage, left))
            continue
        if stage in KEYS:
            values = choose(slow, keys, stage, left)
            known = replace(known, config=known.config.with_values(values))
        clock.spend(SECONDS[stage](known), how)
    assert 0.85 < clock.now / known.config.budget_s < 1.15


def _finish(known: Rates, slow: Rates, clock: _Clock, how: str, share: float) -> None:
    """Both workers train in slices of ten seconds, each kept to the time by its pace."""
    one = replace(known, config=known.config.with_values({"finish.epochs": 1}))
    steps = one.steps(one.config.finish)
    each = finalist_s(one) / steps
    count, workers = known.config.finish.finalists, known.config.executor.workers
    pace = _Paced(
        clock.now + share,
        dict.fromkeys(map(str, range(count)), each * slow.process_s / known.process_s),
    )
    pace.clock = clock
    epochs = min(
        max(
            int(share / (count / workers * each * steps * slow.process_s / known.process_s)),
            LEAST["finish.epochs"],
        ),
        100,
    )
    states = {str(i): State(0, {}, {"steps": epochs * steps}) for i in range(count)}
    waiting = list(states)
    running = [waiting.pop(0) for _ in range(min(workers, count))]
    while running:
        begun = clock.now
        clock.spend(10.0, how)
        for key in list(running):
            state = states[key]
            made = min(round(10.0 / each), state.notes["steps"] - state.step)
            states[key] = state = State(state.step + made, {}, state.notes)
            if state.step >= state.notes["steps"]:
                running.remove(key)
                running += [waiting.pop(0)] if waiting else []
                continue
            pace.seen[key] = (clock.now - begun) / made
            left = {k: states[k].notes["steps"] - states[k].step for k in states}
            factor = pace.factor(
                {k: left[k] for k in running}, {k: left[k] for k in waiting}, workers
            )
            states[key] = resized(state, factor, state.notes["steps"], steps, 100 * steps)


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.0, 1.8])
def test_a_resized_training_is_at_the_same_share_of_a_shorter_or_longer_whole(
    factor: float,
) -> None:
    state = resized(State(400, {}, {"score": 0.5}), factor, 1000, 10, 10_000)
    whole = state.notes["steps"]
    assert whole - state.step == pytest.approx(600 * factor, abs=2)
    assert state.step / whole == pytest.approx(0.4, abs=0.01)
    assert state.notes["score"] == 0.5


def test_a_resized_training_makes_its_last_pass() -> None:
    late = resized(State(400, {}, {}), 0.0, 1000, 50, 10_000)
    assert late.notes["steps"] - late.step == pytest.approx(50, abs=2)
    nearly = resized(State(990, {}, {}), 0.0, 1000, 50, 10_000)
    assert nearly.notes["steps"] > nearly.step


def test_makespan_gives_what_waits_to_whoever_is_free() -> None:
    assert makespan([10.0, 4.0], [5.0], 2) == 10.0
    assert makespan([10.0, 4.0], [5.0, 5.0], 2) == 14.0
    assert makespan([], [3.0, 2.0, 1.0], 1) == 6.0
