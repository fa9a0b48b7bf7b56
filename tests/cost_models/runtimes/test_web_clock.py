"""Pages that no server isolates have clocks that tick seldom, and tell the same times."""

import json
import shutil
import subprocess
from pathlib import Path
from statistics import median

import pytest

PROGRAM = Path(__file__).with_name("clock.mjs")
NODE = shutil.which("node")


@pytest.mark.skipif(not NODE, reason="needs Node.js on the PATH")
@pytest.mark.parametrize("tick_ms", [0.005, 1.0])
def test_the_time_of_a_run_does_not_depend_on_the_tick(tick_ms: float) -> None:
    assert NODE
    command = [NODE, "--single-threaded", PROGRAM, str(tick_ms)]  # its clock counts all threads
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert median(json.loads(done.stdout)["ms"]) == pytest.approx(0.38, abs=0.02)
