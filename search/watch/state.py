"""State: whether a run is waited for, runs, was stopped, failed or is done, from its folder."""

from __future__ import annotations

import os
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ...spaces.errors import RunError
from ..run.stage import Stage
from ..store.atomic_files import read_json
from ..store.run_folder import RunPaths

QUIET_S = 60.0  # without a sign of life, after which a process is taken for dead
TAIL, TAIL_BYTES = 12, 20_000  # lines of the log that are shown, and bytes that hold them

Known = Literal["waiting", "running", "stopped", "failed", "done"]


@dataclass(frozen=True)
class State:
    """What is known of a run at one moment.

    Attributes:
        state: waiting (there is no run yet), running, stopped, failed or done.
        progress: as `progress.json` has it; of an earlier release only the stages.
        error: why it failed; empty if it did not.
        resume: command that goes on; empty where there is nothing to go on with.
        log: its last lines.
    """

    state: Known
    progress: Mapping[str, Any]
    error: str = ""
    resume: str = ""
    log: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def read_state(paths: RunPaths) -> State:
    """Look at a run folder, which need not exist.

    Raises:
        RunError: something else is there.
    """
    path = paths.path
    if not paths.config.is_file():
        if path.is_file() or (path.is_dir() and any(path.iterdir()) and not paths.lock.exists()):
            raise RunError(f"{path}: no run folder: it has no {paths.config.name}")
        return State("waiting", {"stages": []})
    progress = _optional(paths.progress) or _of_stages(paths)
    state = progress["state"]
    if state == "running" and not alive(progress):
        state = "stopped"
    over = state in ("stopped", "failed")
    return State(
        state, progress, progress["error"], _resume(paths) if over else "", _tail(paths.log)
    )


def alive(progress: Mapping[str, Any]) -> bool:
    """Whether the process that wrote `progress.json` still works."""
    if time.time() - progress["updated"] > QUIET_S:
        return False
    here = progress["host"] == platform.node() and os.name == "posix"
    return not here or _exists(progress["pid"])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _of_stages(paths: RunPaths) -> dict[str, Any]:
    """Progress of a run that wrote none."""
    ended = _optional(paths.stages)
    done = paths.report.exists()
    rows = [
        {
            "name": stage.value,
            "about": stage.meaning,
            "state": "done" if stage in ended or done else "to come",
            "seconds": ended.get(stage, {}).get("seconds"),
            "expected_s": None,
        }
        for stage in Stage
    ]
    return {"state": "done" if done else "stopped", "error": "", "stages": rows}


def _resume(paths: RunPaths) -> str:
    """Command that continues the run; empty where it did not start from the command line."""
    command = _optional(paths.environment).get("command", [])
    if command[1:2] != ["search"]:
        return ""
    words = [word for word in command[1:] if word != "--resume"]
    return shlex.join(["vitpareto", *words, "--resume"])


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-TAIL:]
    except OSError:
        return []


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
