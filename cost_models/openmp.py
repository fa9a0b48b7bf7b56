"""OpenMP: how long threads of torch that wait for each other keep their cores busy.

A thread that waits for one that another program keeps from running burns the time that the other
needs. GNU's library, which torch's wheels for Linux bring, waits some milliseconds before it
sleeps. Two threads took so many times as long as one for a step of 32 images (teachers and shared
weights of `digits` and `photos`, two cores, each the median of three):

    rounds of waiting     300,000 (usual)  30,000      3,000       0
    no other program      0.6 to 0.9       0.5 to 1.0  0.6 to 1.0  0.9 to 1.9
    ten other processes   6 to 26          5 to 7      0.9 to 2.3  0.8 to 2.0
"""

from __future__ import annotations

import os

ROUNDS, BRIEFLY = "GOMP_SPINCOUNT", "3000"
CHOSEN = (ROUNDS, "OMP_WAIT_POLICY")


def wait_briefly() -> None:
    """Let threads sleep soon, in this process and those that it starts; call before torch loads.

    Whoever has chosen otherwise in the environment is left alone.
    """
    if not any(name in os.environ for name in CHOSEN):
        os.environ[ROUNDS] = BRIEFLY


def usual_environment() -> dict[str, str]:
    """Environment for a process that measures: threads wait there as they do in an application."""
    return {n: v for n, v in os.environ.items() if (n, v) != (ROUNDS, BRIEFLY)}
