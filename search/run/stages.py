"""Stages of a run as they are run: the time, peak memory and results of each."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from ...cost_models.standalone.runner import peak_mb
from ..store.run_folder import RunFolder
from .progress import current_job
from .stage import Stage

log = logging.getLogger("vitpareto")


@contextlib.contextmanager
def running(folder: RunFolder, stage: Stage) -> Generator[dict[str, Any]]:
    """Log a stage, and record its time, its peak memory and the facts that it adds."""
    name = stage.value
    job = current_job()
    log.info("%s", job.begin(stage) if job else f"{name}: {stage.meaning}")
    _forget_peak()
    start = time.perf_counter()
    facts: dict[str, Any] = {}
    yield facts
    seconds = job.finish(stage) if job else time.perf_counter() - start
    facts = {"seconds": round(seconds, 2), "peak_memory_mb": round(peak_mb())} | facts
    folder.record_stage(name, facts)
    log.info("%s: %s", name, ", ".join(f"{key} {_short(value)}" for key, value in facts.items()))


@contextlib.contextmanager
def logging_to(path: Path) -> Generator[None]:
    """Send log messages to standard error and, with the time, to a file."""
    console, file = logging.StreamHandler(sys.stderr), logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    level = log.level
    log.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [console, file]
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        log.setLevel(level)
        for handler in handlers:
            log.removeHandler(handler)
        log.setLevel(level)
        file.close()


def stage_lines(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Time and memory of every stage, one line each."""
    total = sum(facts["seconds"] for facts in stages.values())
    return [
        f"{'stage':16}  {'seconds':>8}  {'peak memory':>11}",
        *(
            f"{name:16}  {facts['seconds']:8.1f}  {facts['peak_memory_mb']:>8,} MB"
            for name, facts in stages.items()
        ),
        f"{'all':16}  {total:8.1f}",
    ]


def _forget_peak() -> None:
    """Reset the peak resident size, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
