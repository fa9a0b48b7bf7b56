"""Budget: what it chooses, and that a machine whose speed swings does not break it.

Time is simulated here: stages take what the estimates say, times how slow the machine then is.
"""

from dataclasses import dataclass, replace

import pytest
import torch

from vitpareto.search.config import RunConfig, TrainConfig, load_config
from vitpareto.search.durations import duration_text, parse_duration
from vitpareto.search.pipeline import STEPS, steps_of
from vitpareto.search.run.estimates import SECONDS, finalist_s
from vitpareto.search.run.inheriting import READY, begin_anew, without_supernet
from vitpareto.search.run.lengths import KEYS, LEAST, MOST, open_keys
from vitpareto.search.run.planning import allotted_s, check_budget, choose, planned
from vitpareto.search.run.rates import TIMED, Rates
from vitpareto.search.run.stages import Stage
from vitpareto.search.training import pace as module
from vitpareto.search.training.checkpoint import State
from vitpareto.search.training.optimizer import Optimizer
from vitpareto.search.training.pace import Limit, Pace, Schedule, makespan, resized
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
    ("text", "seconds"),
    [("90s", 90), ("15min", 900), ("2h", 7200), ("1h30min", 5400), ("1h30min50s", 5450)],
)
def test_durations_are_read_and_written(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    "text", ["", "15", "min", "0s", "-5min", "15 hours", "1min2h", "nan", "0.4s"]
)
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
    lengths = []
    for budget in ("6min", "12min", "25min"):
        config = chosen(with_budget(budget))
        lengths.append((config.teacher.epochs, config.forecast.steps, config.finish.epochs))
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_what_is_given_is_kept() -> None:
    known = with_budget("15min", teacher__epochs=7, finish__finalists=3)
    keys = open_keys(known.config)
    assert not {"teacher.epochs", "finish.finalists"} & set(keys)
    config = planned(known, keys, 0.0)
    assert (config.teacher.epochs, config.finish.finalists) == (7, 3)
    took = sum(seconds(replace(known, config=config)) for seconds in SECONDS.values())
    assert 0.85 * 900 < took < 1.05 * 900


def test_a_start_gets_time_and_its_candidates_few_passes() -> None:
    known = replace(with_budget("25min"), finish_step_s=1.0)
    begun = known.config.model_dump(include={"space", "data", "executor"})
    begun |= {"budget": "25min", "start": {"model": "vit"}}
    cut = replace(
        known, config=RunConfig.model_validate(begun), start_step_s=1.0, options=12, score_s=1.0
    )
    config, without = chosen(cut), chosen(known)
    share = SECONDS[Stage.START](replace(cut, config=config)) / config.budget_s
    assert 0.2 < share < 0.3
    assert config.finish.finalists == 4 > without.finish.finalists
    assert config.finish.epochs < without.finish.epochs


@pytest.mark.parametrize(
    ("values", "anew"),
    [
        ({"supernet.epochs": 2}, True),
        ({"supernet.epochs": READY}, False),
        ({"supernet.epochs": READY, "finish.inherit": False}, True),
        ({"supernet.epochs": 0}, True),
    ],
)
def test_models_that_inherit_little_are_new(values: dict[str, float], anew: bool) -> None:
    assert begin_anew(rates().config.with_values(values)) is anew


def chosen(known: Rates) -> RunConfig:
    return planned(known, open_keys(known.config), 0.0)


def test_a_budget_too_short_for_a_supernet_does_without() -> None:
    """Its time goes to all others, and what is new learns as fast as networks trained alone."""
    short, long = with_budget("15min"), with_budget("50min")
    without, with_it = chosen(short), chosen(long)
    assert not without.has_supernet
    assert (without.finish.inherit, without.finish.lr) == (False, without.proxy.lr)
    assert SECONDS[Stage.SUPERNET](replace(short, config=without)) == 0.0
    assert Stage.SUPERNET not in [step.stage for step in steps_of(without)]
    assert with_it.supernet.epochs >= READY
    assert (with_it.finish.inherit, with_it.finish.lr) == (True, 3e-4)


def test_the_time_of_a_supernet_that_is_left_out_goes_to_all_others() -> None:
    known = with_budget("15min")
    keys = open_keys(known.config)
    whole = {s: allotted_s(known, keys, s, 800.0) for s in (Stage.CALIBRATION, Stage.TEACHER)}
    known = replace(known, config=known.config.with_values(without_supernet(known.config, keys)))
    more = {stage: allotted_s(known, keys, stage, 800.0) / s for stage, s in whole.items()}
    assert more[Stage.CALIBRATION] == pytest.approx(more[Stage.TEACHER], rel=0.02)
    assert more[Stage.TEACHER] > 1.1


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ({"supernet__epochs": 3}, 3),
        ({"finish__inherit": True}, None),
        ({"forecast__candidates": 0}, None),
    ],
)
def test_a_supernet_that_somebody_needs_is_trained_however_little(
    given: dict[str, float], passes: int | None
) -> None:
    config = chosen(with_budget("15min", **given))
    assert 0 < config.supernet.epochs < READY
    assert passes is None or config.supernet.epochs == passes
    assert config.finish.lr == config.proxy.lr, "it inherits little"


def test_a_supernet_of_which_nobody_inherits_is_left_out_however_long_the_budget() -> None:
    config = chosen(with_budget("2h", finish__inherit=False, finish__lr=1e-3))
    assert not config.has_supernet
    assert config.finish.lr == 1e-3, "what is given is kept"


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


class _Training:
    """A training of one pass every ten steps, on a machine of some slowness."""

    def __init__(self, steps: int, limit: Limit | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = _Clock()
        monkeypatch.setattr(module.time, "monotonic", lambda: self.clock.now)
        weights = [("w", torch.nn.Parameter(torch.zeros(1)))]
        self.optimizer = Optimizer(weights, TrainConfig(lr=1.0), steps)
        self.schedule, self.made = Schedule(steps, 10, limit), 0

    def run(self, step_s: float, how: str) -> float:
        """Train to the end; the learning rate of the last step."""
        while self.optimizer.done < self.schedule.steps:
            self.clock.spend(step_s, how)
            rate = self.optimizer._factor()  # pyright: ignore[reportPrivateUsage]
            self.optimizer.parameters["w"].grad = torch.ones(1)
            self.optimizer.step()
            self.schedule.follow(self.optimizer)
            self.made += 1
        return rate


@pytest.mark.parametrize("how", SLOWNESS)
@pytest.mark.parametrize("step_s", [0.25, 1.5])
def test_a_single_training_keeps_to_its_time_and_to_its_schedule(
    step_s: float, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned for half a second a step, it is cut or stretched, and cools down in any case."""
    limit = Limit(500.0, 1000)
    training = _Training(1000, limit, monkeypatch)
    assert training.run(step_s, how) < 0.02
    assert limit.made == pytest.approx(training.made / 10)
    assert training.clock.now == pytest.approx(500, rel=0.15)


def test_a_single_training_makes_no_more_passes_than_are_useful(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = _Training(1000, Limit(5000.0, 120), monkeypatch)
    training.run(0.1, "steady")
    assert 1100 < training.made <= 1200


def test_a_training_without_a_limit_makes_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _Training(100, None, monkeypatch)
    training.run(60.0, "slow at the end")
    assert training.made == training.schedule.steps == 100


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
