"""RunFolder: everything a run keeps, such that a kill at any instant loses nothing finished."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...spaces.errors import RunError
from .atomic_files import read_json, write_atomic, write_json


class RunFolder:
    """The files of one run; see the names of the properties.

    Args:
        path: an existing folder.

    Raises:
        RunError: it is no folder, or another process works in it.
    """

    def __init__(self, path: Path, lock: bool = True) -> None:
        if not (path / "config.yaml").is_file():
            raise RunError(f"{path}: no run folder: it has no config.yaml")
        self.path = path
        self._lock = _locked(path / "lock") if lock else None

    @staticmethod
    def check_free(path: Path) -> None:
        """Find out whether a run folder can be made, before hours are spent on what goes in.

        One in which no stage has ended may be made anew: there is nothing to lose in it.

        Raises:
            RunError: there is one already, or nothing can be written there.
        """
        if (path / "stages.json").exists():
            raise RunError(
                f"{path}: holds a run already: continue it with --resume, or name another "
                "folder with --run-dir"
            )
        if (path / "lock").exists():
            os.close(_locked(path / "lock"))
        above = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not above.is_dir():
            raise RunError(f"{path}: {above} is a file: name another folder with --run-dir")
        if not os.access(above, os.W_OK):
            raise RunError(f"{path}: no permission to write in {above}: name another --run-dir")

    @classmethod
    def create(cls, path: Path, config: str, space: str) -> RunFolder:
        """Make a new run folder.

        Raises:
            RunError: there is one already, or it cannot be written.
        """
        cls.check_free(path)
        write_atomic(path / "space.yaml", space)
        write_atomic(path / "config.yaml", config)
        return cls(path)

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def space(self) -> Path:
        """The space as it was searched, with the classes and channels of the data."""
        return self.path / "space.yaml"

    @property
    def environment(self) -> Path:
        """Versions, processor and command."""
        return self.path / "environment.json"

    @property
    def stages(self) -> Path:
        """Seconds, peak memory and results of every finished stage."""
        return self.path / "stages.json"

    @property
    def teacher(self) -> Path:
        """Weights and cached logits of the teacher."""
        return self.path / "teacher.safetensors"

    @property
    def cost_model(self) -> Path:
        """The calibrated cost model."""
        return self.path / "cost_model.json"

    @property
    def supernet(self) -> Path:
        """Shared weights."""
        return self.path / "supernet.safetensors"

    @property
    def examples(self) -> Path:
        """Short trainings from which accuracies are predicted, one a line."""
        return self.path / "short_trainings.jsonl"

    @property
    def journal(self) -> Path:
        """Optuna's journal."""
        return self.path / "study.journal"

    @property
    def shortlist(self) -> Path:
        """Measured latencies of candidates from which finalists are chosen."""
        return self.path / "shortlist.json"

    @property
    def test_seal(self) -> Path:
        """When the test split was read."""
        return self.path / "test_readings.json"

    @property
    def pareto(self) -> Path:
        """A folder for each delivered model, named by its key."""
        return self.path / "pareto"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def picture(self) -> Path:
        """The front as a picture."""
        return self.path / "pareto.png"

    @property
    def log(self) -> Path:
        """What was done when."""
        return self.path / "log.txt"

    @property
    def evaluations(self) -> Path:
        """Scored candidates, one a line."""
        return self.path / "evaluations.jsonl"

    def record_stage(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add a finished stage to `stages.json`; one that did nothing again changes nothing."""
        stages: dict[str, Any] = read_json(self.stages) if self.stages.exists() else {}
        if name not in stages:
            write_json(self.stages, stages | {name: dict(facts)})

    def close(self) -> None:
        """Let another process work in the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _locked(path: Path) -> int:
    """A lock that ends with the process, however it ends."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunError(f"{path.parent}: another process works in this run folder") from None
    return handle
