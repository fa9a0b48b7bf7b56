"""Timing of a run's steps: few seconds for each, and near what the whole takes."""

import os
from dataclasses import dataclass
from statistics import fmean

import pytest

from vitpareto.cost_models import workload
from vitpareto.search.config import ExecutorConfig, RunConfig, load_config
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.loading import load_data
from vitpareto.search.run import timing
from vitpareto.search.run.crowding import crowding, other_workers
from vitpareto.search.run.pieces import alone, together, typical
from vitpareto.search.run.timing import PART_S, Work, timed
from vitpareto.search.scoring.forecast import draw_examples
from vitpareto.spaces import SearchSpace


@dataclass
class Clock:
    """A machine on which work takes some seconds, and some for each image."""

    now: float = 0.0

    def work(self, fixed: float, each: float, images: int) -> Work:
        def do(count: int) -> None:
            self.now += fixed + each * count

        return Work(do, images)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.mark.parametrize("each", [1e-4, 3e-3, 0.1, 2.0])
def test_long_work_is_timed_with_few_images(clock: Clock, each: float) -> None:
    """Half a second of a step is not for its images here."""
    step = timed({"step": clock.work(0.5, each, 64)})["step"]
    for images in (32, 64):
        assert step.seconds(images) == pytest.approx(0.5 + each * images, rel=0.01)
    assert step.seconds() == step.seconds(64)
    assert clock.now < 3 * (0.5 + 5 * each) + 2 * PART_S


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_slow_moment_makes_no_step_free_or_dearer_than_its_images(
    clock: Clock, noise: float
) -> None:
    def do(images: int) -> None:
        clock.now += (1.0 + noise * (images == 1)) * images**0.1

    step = timed({"step": Work(do, 64)})["step"]
    part = step._most  # pyright: ignore[reportPrivateUsage]
    assert 0.999 <= step.seconds() / part**0.1 <= 1.001 * 64 / part


@pytest.mark.parametrize("stall", [0.0, 2.0, 30.0])
def test_a_stall_is_not_taken_for_the_time_of_all_images(clock: Clock, stall: float) -> None:
    """Once, at the time that counts most: the first of all images."""
    stalls = {64: stall}

    def do(images: int) -> None:
        clock.now += 0.001 * images + stalls.pop(images, 0.0)

    assert timed({"step": Work(do, 64)})["step"].seconds() == pytest.approx(0.064)


def test_work_without_images_is_timed_as_it_is(clock: Clock) -> None:
    process = timed({"process": clock.work(3.0, 0.0, 1)})["process"]
    assert process.seconds() == 3.0
    assert clock.now == 6.0


@pytest.mark.parametrize("name", ["digits", "photos", "mobile_hybrid"])
def test_typical_candidates_take_about_as_long_as_random_ones(name: str) -> None:
    space = SearchSpace.from_yaml(name)
    random = fmean(workload(c).macs for c in draw_examples(space, 200, 7))
    assert fmean(workload(c).macs for c in typical(space, 0)) == pytest.approx(random, rel=0.25)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load_config("digits").data, 16)


def test_every_piece_can_be_done_with_few_images(space: SearchSpace, data: Data) -> None:
    config = load_config("digits", ["supernet.alone=0.5"])
    names = ("view_s", "answer_s", "teacher_step_s", "supernet_step_s", "largest_step_s")
    works = together(config, space, data, names)
    assert works.keys() == set(names)
    candidates = typical(space, 0)
    single = alone(config, space, data, candidates, ("train", "judge", "score"))
    assert len(single) == 3 * len(candidates)
    for work in (*works.values(), *single.values()):
        for images in (1, 3, work.images):
            work.do(images)
    assert works["supernet_step_s"].images == config.supernet.batch_size
    assert single["train", candidates[0].key].images == config.finish.batch_size


def measured(config: RunConfig, space: SearchSpace, data: Data) -> float:
    with other_workers(config) as others:
        return crowding(config, space, data, others)


def test_one_worker_slows_nobody(space: SearchSpace, data: Data) -> None:
    config = load_config("digits", ["executor.workers=1"])
    assert measured(config, space, data) == 1.0
    elsewhere = ExecutorConfig(kind="ray", workers=8, address="10.0.0.1:6379")
    assert measured(config.model_copy(update={"executor": elsewhere}), space, data) == 1.0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_workers_on_one_core_take_twice_as_long(
    space: SearchSpace, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a little less, where other programs use that core, too."""
    monkeypatch.setattr("vitpareto.search.run.crowding.TURNS", 2)
    config = load_config("digits", ["executor.workers=2", "executor.threads=1"])
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # which the other worker inherits
    try:
        found = measured(config, space, data)
    finally:
        os.sched_setaffinity(0, cores)
    assert 1.2 < found < 4
