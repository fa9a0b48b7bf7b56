"""Progress: how far the whole job is, for the console, and in `progress.json` for who watches.

Training loops only set a few numbers here; a thread writes the file.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...spaces.errors import RunError
from ..console import followed_by, spoken
from ..store.atomic_files import read_json, write_json
from ..store.run_folder import RunPaths
from .busy import Busy
from .stage import Stage

EVERY_S = 3.0  # between two versions of the file
PRIOR = 10.0, 0.15  # seconds that went as estimated, before any did: at least, and of the whole
SURE = 0.2  # share of a bar from which its pace alone tells how long it takes
UNSCALED = (Stage.DATA, Stage.CALIBRATION)  # their time is known, however fast the machine is


@dataclass
class _Bar:
    """A bar that counts at the moment."""

    label: str
    done: float
    total: float
    words: str
    first: float
    since: float

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0

    def is_the_same(self, label: str, done: float, total: float) -> bool:
        """Whether it goes on under a label that may name other models by now."""
        names = [words.partition(" ")[0] for words in (self.label, label)]
        return names[0] == names[1] and self.total == total and self.done <= done

    def __str__(self) -> str:
        counted = f"{self.label}: {self.done:,.0f} of {self.total:,.0f}"
        return f"{counted}, {self.words}" if self.words else counted

    def left_s(self, now: float) -> float | None:
        """Seconds to its end at its own pace; None before it has one."""
        counted = self.done - self.first
        return (now - self.since) / counted * (self.total - self.done) if counted else None


def stopped_s(paths: RunPaths) -> dict[str, float]:
    """Seconds that earlier processes spent in a stage that they did not end, by its name."""
    if not paths.progress.exists():
        return {}
    ended = read_json(paths.stages) if paths.stages.exists() else {}
    rows = read_json(paths.progress)["stages"]
    return {r["name"]: r["seconds"] for r in rows if r["seconds"] and r["name"] not in ended}


def is_done(paths: RunPaths) -> bool:
    """Whether a job has gone through all stages of a run."""
    rows = read_json(paths.progress)["stages"] if paths.progress.exists() else []
    return bool(rows) and all(row["state"] == "done" for row in rows)


class Job:
    """The stages of a run: which ended, which runs, and how long the rest will take.

    Args:
        paths: of the run.
        stages: in order.
        ended: stage -> seconds, of those that an earlier process finished.
        computing: stages that keep this process computing, in which a busy machine is noticed.
        whole: whether all stages are gone through; otherwise something is done beside them, such as
            a comparison, which makes what it needs of them.
    """

    def __init__(
        self,
        paths: RunPaths,
        stages: Sequence[Stage],
        ended: Mapping[str, float],
        computing: Collection[Stage] = (),
        whole: bool = True,
    ) -> None:
        self._paths, self._stages, self._computing = paths, stages, computing
        self._whole = whole
        self._ended = {Stage(name): s for name, s in ended.items() if name in stages}
        self._stopped = stopped_s(paths)
        self._took: dict[Stage, float] = {}  # of those that ended here
        self._expected: Mapping[Stage, float] = {}
        self._end: float | None = None
        self._now: Stage | None = None
        self._since = 0.0
        self._bar: _Bar | None = None
        self._busy = Busy()
        self._started, self._state, self._error = time.time(), "running", ""
        self._lock, self._over = threading.Lock(), threading.Event()
        if not whole and is_done(paths):
            self._pass(stages)

    def expect(self, seconds: Mapping[Stage, float], end: float | None = None) -> None:
        """Set which stages there are, and how long each should take.

        Args:
            seconds: of all stages in order, those that ended included.
            end: of the job, of `time.monotonic`, where what is to come keeps to it.
        """
        with self._lock:
            self._stages, self._expected, self._end = [*seconds], seconds, end

    def begin(self, stage: Stage) -> str:
        """Note that a stage starts; words that say so."""
        with self._lock:
            self._now, self._bar = stage, None
            self._since = time.monotonic() - self._stopped.pop(stage, 0.0)
            self._busy.begin(stage)
            if not self._whole:
                return f"{stage.value}: {stage.meaning}"
            self._pass(self._stages[: self._stages.index(stage)])
        number = f"stage {self._stages.index(stage) + 1} of {len(self._stages)}: "
        left = self.whole()
        return f"{number}{stage.value}: {stage.meaning}" + (f"; {left}" if left else "")

    def finish(self, stage: Stage) -> float:
        """Note that a stage has ended; its seconds, in processes that were stopped included.

        What a stage took that had ended before, and was gone through again, is not among them.
        """
        with self._lock:
            seconds = time.monotonic() - self._since
            self._ended[stage] = self._took[stage] = self._spent_s(stage)
            self._now, self._bar = None, None
        return seconds

    def see(self, label: str, done: float, total: float, words: str) -> None:
        """Note where a bar is."""
        bar = self._bar
        if bar and bar.is_the_same(label, done, total):
            bar.label, bar.done, bar.words = label, done, words
        else:
            self._bar = _Bar(label, done, total, words, done, time.monotonic())

    def left_s(self) -> float | None:
        """Seconds left of the stage; None where nothing tells."""
        left = self._left_s() if self._now else None
        return left and left[0]

    def whole(self) -> str:
        """How long the whole job still takes, in words; empty where nothing tells."""
        left = self._left_s()
        return "" if left is None else f"about {spoken(left[1])} left in all"

    def to_dict(self) -> dict[str, Any]:
        """What the file holds."""
        with self._lock:
            bar, stage, left = self._bar, self._now, self._left_s()
            rows = [self._row(one) for one in self._stages]
            return {
                "state": self._state,
                "error": self._error,
                "stage": stage and stage.value,
                "index": self._stages.index(stage) + 1 if stage else len(self._ended),
                "of": len(self._stages),
                "about": stage.meaning if stage else "",
                "share": round(bar.share, 4) if bar else 0.0,
                "doing": str(bar) if bar else "",
                "stage_left_s": left and round(left[0], 1),
                "left_s": left and round(left[1], 1),
                "busy": self._busy.words,
                "stages": rows,
                "started": self._started,
                "updated": time.time(),
                "pid": os.getpid(),
                "host": platform.node(),
            }

    @contextlib.contextmanager
    def kept(self) -> Generator[None]:
        """Keep the file up to date meanwhile, and say in it how the job ended.

        A run whose stages were done stays done, whatever became of what was done beside them.
        """
        thread = threading.Thread(target=self._keep, name="progress", daemon=True)
        thread.start()
        try:
            yield
            if self._whole:
                self._pass(self._stages)
            self._state = "done" if self._whole else "stopped"
        except KeyboardInterrupt:
            self._state = "stopped"
            raise
        except BaseException as error:
            self._state, self._error = "failed", str(error) or type(error).__name__
            raise
        finally:
            if not self._whole and self._ended.keys() >= {*self._stages}:
                self._state, self._error = "done", ""
            self._over.set()
            thread.join()
            self._write()

    def _pass(self, stages: Sequence[Stage]) -> None:
        """Note that stages are over; some had nothing to do."""
        for stage in stages:
            self._ended.setdefault(stage, 0.0)

    def _keep(self) -> None:
        while not self._over.is_set():
            if self._now in self._computing:
                self._busy.look()
            self._write()
            self._over.wait(EVERY_S)

    def _write(self) -> None:
        if not self._paths.config.exists():
            return  # what held nothing of value was discarded
        with contextlib.suppress(RunError):  # a full disk stops the run where it matters
            write_json(self._paths.progress, self.to_dict())

    def _row(self, stage: Stage) -> dict[str, Any]:
        state = "now" if stage is self._now else "done" if stage in self._ended else "to come"
        expected = self._expected.get(stage)
        if expected is not None and stage not in UNSCALED:
            expected *= self._pace()
        return {
            "name": stage.value,
            "about": stage.meaning,
            "state": state,
            "seconds": round(self._spent_s(stage), 1)
            if state == "now"
            else self._ended.get(stage, self._stopped.get(stage)),
            "expected_s": expected and round(expected, 1),
        }

    def _spent_s(self, stage: Stage) -> float:
        """Seconds of the stage that runs, with those until it ended before, if it did."""
        return self._ended.get(stage, 0.0) + time.monotonic() - self._since

    def _left_s(self) -> tuple[float, float] | None:
        """Seconds left of this stage and of all."""
        if not self._expected:
            return None
        rows = {stage: self._expected.get(stage, 0.0) for stage in self._stages}
        pace = self._pace()
        scaled = {s: e if s in UNSCALED else pace * e for s, e in rows.items()}
        now = self._stage_left_s(scaled)
        coming = [s for s in self._stages if s not in self._ended and s is not self._now]
        later = sum(scaled[stage] for stage in coming)
        if self._end is None:
            return now, now + later
        # What is to come is cut until it fits; a stage of a given length takes what it takes.
        return now, max(now, later, self._end - time.monotonic())

    def _stage_left_s(self, scaled: Mapping[Stage, float]) -> float:
        """By the estimate at first, then by the pace of the bar."""
        if self._now is None:
            return 0.0
        now, bar = time.monotonic(), self._bar
        left = max(0.0, scaled[self._now] - self._spent_s(self._now))
        paced = bar.left_s(now) if bar and bar.share < 1 else None
        if not bar or paced is None:
            return left
        weight = min(1.0, bar.share / SURE)
        return weight * paced + (1 - weight) * left

    def _pace(self) -> float:
        """How much longer stages take than was estimated; no longer where they keep to an end.

        The little that is known at first moves it a little, as one stage may have been estimated
        wrong while all others were not.
        """
        if self._end is not None:
            return 1.0
        whole = sum(s for stage, s in self._expected.items() if stage not in UNSCALED)
        took = expected = max(PRIOR[0], PRIOR[1] * whole)
        for stage, seconds in self._took.items():
            if stage not in UNSCALED and stage in self._expected:
                took, expected = took + seconds, expected + self._expected[stage]
        bar, stage, now = self._bar, self._now, time.monotonic()
        left = bar.left_s(now) if bar and stage not in self._ended else None
        if left and stage and stage not in UNSCALED and stage in self._expected:
            spent = now - self._since  # of which other bars may have had a part
            took += spent
            expected += self._expected[stage] * spent / (spent + left)
        return took / expected


_jobs: list[Job] = []  # of this process


def current_job() -> Job | None:
    """The job that this process works on, if any."""
    return _jobs[-1] if _jobs else None


@contextlib.contextmanager
def following(job: Job) -> Generator[Job]:
    """Follow the stages and the bars of this process, for a job."""
    _jobs.append(job)
    try:
        with followed_by(job), job.kept():
            yield job
    finally:
        _jobs.remove(job)
