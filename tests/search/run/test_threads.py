"""Threads of torch: every core that a process may use, whatever its environment asks for."""

import os
import subprocess
import sys

from vitpareto.search.cores import core_count

PROGRAM = """
import torch
from vitpareto.cost_models.runtimes.torch import threads
from vitpareto.search.config import load_config
from vitpareto.search.run.rates import main_threads
print(torch.get_num_threads())
with threads(main_threads(load_config("digits", ["executor.threads=0"]))):
    print(torch.get_num_threads())
"""


def test_omp_num_threads_does_not_count() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", str(core_count())]
