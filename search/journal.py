"""Journal: a study as a file that optuna-dashboard opens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import BaseJournalBackend, JournalStorage
from optuna.trial import FrozenTrial

from ..spaces.errors import RunError


class Journal:
    """A copy of a study in the format of Optuna's journal, a line a trial.

    The study itself is in memory, where Optuna is fast. Nothing is lost with the last lines: the
    journal is written anew from the evaluations when a run is resumed.

    Args:
        path: of the file, replaced if it exists.
        study: to be copied; it has no trials yet.
    """

    def __init__(self, path: Path, study: optuna.Study) -> None:
        path.unlink(missing_ok=True)
        self._file, self._written = _File(path), 0
        self._copy = optuna.create_study(
            study_name=study.study_name,
            storage=JournalStorage(self._file),
            directions=study.directions,
        )
        self._copy.set_metric_names(study.metric_names or [])

    def write(self, trials: Sequence[FrozenTrial]) -> None:
        """Append what has ended since, in the order of the numbers; a trial that runs holds it up.

        Args:
            trials: all of the study.

        Raises:
            RunError: the file cannot be written.
        """
        for trial in trials[self._written :]:
            if not trial.state.is_finished():
                break
            self._copy.add_trial(trial)
            self._written += 1
        self._file.flush()


class _File(BaseJournalBackend):
    """The file of a journal with one process: its own lines need no lock, and are not read."""

    def __init__(self, path: Path) -> None:
        self._path, self._unread, self._lines = path, list[dict[str, Any]](), list[str]()

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        found, self._unread = self._unread, []
        return found

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._unread += logs
        self._lines += [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]

    def flush(self) -> None:
        """Hand what was logged to the operating system."""
        try:
            with self._path.open("a") as file:
                file.writelines(self._lines)
        except OSError as error:
            raise RunError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._lines.clear()
