"""EvaluationLog: scored candidates, a line each, of which a kill loses none that was finished."""

from __future__ import annotations

import json
import os
import threading
import time
from functools import lru_cache
from pathlib import Path

from ...spaces.errors import RunError
from ..store.atomic_files import append_synced, write_atomic
from .evaluation import Evaluation

PARSED = 100_000  # lines that are remembered, some kilobytes each


class EvaluationLog:
    """Scored candidates by key, each one line of a file that only grows.

    A last line that a kill left incomplete is cut off when the log is opened, after a copy of
    it was put beside the file.

    Args:
        path: the file; it need not exist.
        again: whether candidates that failed in earlier processes are tried again, as the reason
            may be gone: a machine with too little memory, a file that was missing.

    Raises:
        RunError: a line that is not the last is broken.
    """

    def __init__(self, path: Path, again: bool = False) -> None:
        self._path, self._lock = path, threading.Lock()
        evaluations, whole = read_evaluations(path)
        self._by_key = {e.key: e for e in evaluations if not (again and e.status == "failed")}
        if path.exists() and path.stat().st_size > whole:
            torn = path.with_name(f"{path.name}.torn-{time.time_ns()}")
            write_atomic(torn, path.read_bytes()[whole:])
            os.truncate(path, whole)

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def __getitem__(self, key: str) -> Evaluation:
        return self._by_key[key]

    def all(self) -> list[Evaluation]:
        """Every evaluation in the order of its writing."""
        return list(self._by_key.values())

    def append(self, evaluation: Evaluation) -> None:
        """Write an evaluation to disk, in one piece; the first of a key stays.

        Raises:
            RunError: the disk is full or the file cannot be written.
        """
        with self._lock:
            if evaluation.key not in self._by_key:
                self._write(evaluation)
                self._by_key[evaluation.key] = evaluation

    def _write(self, evaluation: Evaluation) -> None:
        line = json.dumps(evaluation.to_dict(), separators=(",", ":"))
        append_synced(self._path, f"{line}\n")


def read_evaluations(path: Path) -> tuple[list[Evaluation], int]:
    """The evaluations in a log, and how many bytes of it are whole lines.

    Of a candidate that was tried again it is the last one.

    Raises:
        RunError: a line that is not the last is broken.
    """
    evaluations: dict[str, Evaluation] = {}
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = 0
    for number, line in enumerate(lines, 1):
        try:
            evaluation = _parsed(line)
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise RunError(f"{path}: line {number} is broken: {error}") from error
            break
        if not line.endswith(b"\n"):
            break
        evaluations[evaluation.key] = evaluation
        whole += len(line)
    return [*evaluations.values()], whole


@lru_cache(maxsize=PARSED)
def _parsed(line: bytes) -> Evaluation:
    """The evaluation of a line, which is read again at every look at a log, and parsed once."""
    return Evaluation.from_dict(json.loads(line))
