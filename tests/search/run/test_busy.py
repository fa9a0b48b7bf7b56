"""A busy machine is noticed by a process that cannot compute, and said once."""

import logging
import os
import subprocess
import sys
import time

import pytest

from vitpareto.search.run import busy
from vitpareto.search.run.busy import Busy

SPIN = "while True: pass"


def compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a core to share")
def test_two_programs_on_a_core(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(busy, "SOON_S", 0.5)
    before = os.sched_getaffinity(0)
    core = min(before)
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(2)]
    watched = Busy()
    try:
        for other in others:
            os.sched_setaffinity(other.pid, {core})
        os.sched_setaffinity(0, {core})
        watched.begin("teacher")
        compute(2.0)
        with caplog.at_level(logging.INFO, "vitpareto"):
            watched.look()
            watched.look()
    finally:
        os.sched_setaffinity(0, before)
        for other in others:
            other.kill()
            other.wait()
    assert watched.words.startswith("the machine is busy: teacher gets 0.")
    assert caplog.messages == [watched.words]


def test_nothing_is_said_too_soon() -> None:
    watched = Busy()
    watched.begin("teacher")
    time.sleep(0.05)  # as if it were kept from computing
    watched.look()
    assert watched.words == ""
