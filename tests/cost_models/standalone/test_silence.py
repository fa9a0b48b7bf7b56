"""Silence: nothing that is printed meanwhile is heard, whoever prints it, and all else is."""

import subprocess
import sys

from vitpareto.cost_models.calibration.bundle import STANDALONE

CODE = """
import ctypes, os, sys
from silence import silent
c = ctypes.CDLL(None)
print("before")
c.printf(b"of C before\\n")
with silent():
    print("meanwhile")
    print("meanwhile", file=sys.stderr)
    c.printf(b"meanwhile")
    os.write(2, b"meanwhile")
print("after")
print("error", file=sys.stderr)
"""


def test_who_prints_meanwhile_is_not_heard() -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=STANDALONE, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["before", "of C before", "after"]
    assert done.stderr.splitlines() == ["error"]
