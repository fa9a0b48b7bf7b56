"""RunFolder: the files of a run, written so that a kill loses no finished work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from ...spaces.errors import RunError
from .atomic_files import read_json, write_atomic, write_json

DEVICES = "devices"  # folder of what is of one of several devices
TOGETHER = {"seconds": sum, "peak_memory_mb": max}  # of processes that worked on one stage


class _File:
    """A path inside a run folder, by its name there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, paths: RunPaths, owner: type[RunPaths]) -> Path:
        return paths.path / self.name


class _DeviceFile(_File):
    """Likewise of what each of several devices has its own of."""

    def __get__(self, paths: RunPaths, owner: type[RunPaths]) -> Path:
        return paths.own / self.name


class RunPaths:
    """Paths of the files in a run folder.

    Of a run for one device all are in the folder itself. Of a run for several, what each has its
    own of is in `devices/NAME`.

    Args:
        path: of the folder, which need not exist.

    Attributes:
        device: whose files they are, of a run for several; empty for those of all.
    """

    config = _File("config.yaml")  # resolved, every key
    space = _File("space.yaml")  # with the classes and channels of the data
    left_out = _File("left_out.json")  # choices that the device cannot execute, which it is without
    environment = _File("environment.json")  # versions, processor and command
    stages = _File("stages.json")  # seconds, peak memory and results of every finished stage
    progress = _File("progress.json")  # of the process that works here, or that did
    log = _File("log.txt")
    lock = _File("lock")

    catalog = _File("data.json")  # classes in order, and what was decided about the images
    images = _File("images.csv")  # every image with label, split and digest
    pixels = _File("pixels.u8")  # what networks see, a row an image
    reading = _File("reading.jsonl")  # while images are read

    rates = _File("rates.json")  # how long steps take on this machine
    budget = _File("budget.json")  # what was decided to end in time
    cost_model = _DeviceFile("cost_model.json")
    start = _File("start.safetensors")  # adapted, with its architecture
    start_checkpoint = _File("start.checkpoint")  # while it is adapted
    library = _File("library.safetensors")  # parts from which candidates are assembled
    teacher = _File("teacher.safetensors")  # weights and cached logits
    teacher_checkpoint = _File("teacher.checkpoint")  # while one that is not trained here answers
    supernet = _File("supernet.safetensors")
    supernet_checkpoint = _File("supernet.checkpoint")  # while it is trained
    short_trainings = _File("short_trainings.jsonl")  # from which accuracies are forecast
    whole_trainings = _File("whole_trainings.jsonl")  # which say what these become
    half_trained = _File("half_trained")  # networks of either that are under way

    journal = _File("study.journal")  # Optuna's
    evaluations = _File("evaluations.jsonl")  # scored candidates, one a line
    shortlist = _DeviceFile("shortlist.json")  # measured latencies of members of the front
    finalists = _File("finalists.json")  # who was chosen to be delivered, and of what
    pareto = _DeviceFile("pareto")  # a folder for each delivered model, named by its key
    measurements = _DeviceFile("measurements.jsonl")  # of these, each time that they were verified
    mistakes = _DeviceFile("mistakes.json")  # the surest ones of each delivered model
    test_seal = _File("test_readings.json")  # when the test split was read

    # The start or the largest network, rows as in `ladder`.
    reference = _DeviceFile("reference.json")
    report = _DeviceFile("report.html")
    picture = _DeviceFile("pareto.png")

    targets = _DeviceFile("targets.json")  # delivered models in every runtime
    profiles = _DeviceFile("profiles.json")  # where time and memory of delivered models go
    ladder = _DeviceFile("ladder.json")  # models measured side by side
    ladder_models = _DeviceFile("ladder")  # weights of those that were trained for it
    proxy = _File("proxy.json")  # how far scores can be trusted
    proxy_picture = _File("proxy.png")
    proxy_trainings = _File("proxy_trainings.jsonl")
    comparison = _File("comparison.json")  # of samplers
    comparison_picture = _File("comparison.png")
    comparison_scores = _File("comparison.jsonl")

    def __init__(self, path: Path) -> None:
        self.path, self.device = path, ""

    @property
    def own(self) -> Path:
        """Folder of what a device has its own of."""
        return self.path / DEVICES / self.device if self.device else self.path

    def of(self, device: str) -> Self:
        """The same folder with the files of one of several devices; with "" those of all."""
        other = copy(self)
        other.device = device
        return other

    def training_of(self, key: str, way: str = "") -> Path:
        """Checkpoint of a finalist while it is trained, in another way than the usual one if so."""
        return self.pareto / f".{key}{f'.{way}' if way else ''}.safetensors"

    def trainings_of(self, key: str) -> Iterator[Path]:
        """Checkpoints of a finalist, in whatever ways its training began."""
        return self.pareto.glob(f".{key}*.safetensors")

    @property
    def begun(self) -> bool:
        """Whether a stage has ended; before that the folder holds nothing of value."""
        return self.stages.exists()


class RunFolder(RunPaths):
    """Folder of one run, in which one process at a time may work.

    Args:
        path: an existing folder.
        lock: whether this process will write into it.

    Raises:
        RunError: it is no run folder, or another process works in it.
    """

    def __init__(self, path: Path, lock: bool = True) -> None:
        super().__init__(path)
        if not self.config.is_file():
            raise RunError(f"{path}: no run folder: it has no {self.config.name}")
        self._lock = _locked(self.lock) if lock else None

    @property
    def is_open(self) -> bool:
        """Whether this process may write here."""
        return self._lock is not None

    @staticmethod
    def check_free(path: Path) -> None:
        """Check that a run folder can be made, before hours are spent on its content.

        A folder in which no stage has ended may be made anew, as it holds nothing of value.

        Raises:
            RunError: a run or files of its names exist there, or the folder cannot be written.
        """
        paths = RunPaths(path)
        _refuse_begun(paths)
        if paths.lock.exists():
            _locked(paths.lock).release()
        plain = (paths.config, paths.space, paths.catalog, paths.images, paths.log, paths.report)
        others = [file.name for file in plain if file.exists()]  # names that a person may use, too
        if others and not (paths.lock.exists() or paths.environment.exists()):
            raise RunError(
                f"{path}: is no run folder, and a run would write over its {', '.join(others)}: "
                "name another folder with --run-dir"
            )
        above = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not above.is_dir():
            raise RunError(f"{path}: {above} is a file: name another folder with --run-dir")
        if not os.access(above, os.W_OK):
            raise RunError(f"{path}: no permission to write in {above}: name another --run-dir")

    @classmethod
    def create(cls, path: Path, config: str, space: str) -> RunFolder:
        """Make a new run folder.

        Raises:
            RunError: a run exists there, or the folder cannot be written.
        """
        cls.check_free(path)
        paths = RunPaths(path)
        if not path.is_dir():
            write_atomic(paths.space, space)  # which makes the folder, or says why it cannot
        lock = _locked(paths.lock)  # before anything is written over what another process began
        try:
            _refuse_begun(paths)
            # Of a stopped start, perhaps with other images; what it spent is not of this run.
            for file in (paths.catalog, paths.left_out, paths.progress):
                file.unlink(missing_ok=True)
            write_atomic(paths.space, space)
            write_atomic(paths.config, config)
            folder = cls(path, lock=False)
        except BaseException:
            lock.release()
            raise
        folder._lock = lock
        return folder

    def record_stage(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add a finished stage to `stages.json`.

        Where it is there, more of it was done: its time is added, and the other facts are new.
        """
        stages: dict[str, Any] = read_json(self.stages) if self.stages.exists() else {}
        before, now = stages.get(name, {}), dict(facts)
        for key, both in TOGETHER.items():
            if key in before and key in now:
                now[key] = both((before[key], now[key]))
        write_json(self.stages, stages | {name: now})

    def discard(self) -> None:
        """Delete the files of a run that has read its images at most; others there stay."""
        self.close()
        made = (self.config, self.space, self.environment, self.progress, self.log, self.lock)
        made += (self.stages, self.rates, self.budget, self.left_out)
        images = (self.catalog, self.images, self.pixels, self.reading)
        for path in (*made, *images):
            with contextlib.suppress(OSError):  # Windows keeps files that are still mapped
                path.unlink()
        with contextlib.suppress(OSError):  # it is not empty
            self.path.rmdir()

    def close(self) -> None:
        """Release the lock, so that another process may work in the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _refuse_begun(paths: RunPaths) -> None:
    if paths.begun:
        raise RunError(
            f"{paths.path}: holds a run already: continue it with --resume, or name another folder "
            "with --run-dir"
        )


def _locked(path: Path) -> FileLock:
    """Take a lock that is released when the process ends, however it ends."""
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"{path.parent}: another process works in this run folder") from None
    except (OSError, NotImplementedError) as error:  # the latter: its file system has no locks
        raise RunError(f"{path}: cannot be locked: {error}") from error
    return lock
