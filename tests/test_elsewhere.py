"""The package starts where Linux's modules and functions are not."""

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import os, signal, sys
for name in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[name] = None  # as Windows
for holder, names in (
    (os, ("sched_getaffinity", "sched_setaffinity", "fork", "getuid")),
    (signal, ("SIGCHLD", "SIGKILL", "SIGHUP", "SIGUSR1")),
):
    for name in names:
        if hasattr(holder, name):
            delattr(holder, name)
"""
HELP = """
sys.argv = ["vitpareto", {words}]
from vitpareto.search.cli import main
main()
"""
MODULES = """
import importlib, pkgutil
SKIPPED = ("contract", "worker", "ray_train")
import vitpareto.cost_models, vitpareto.search, vitpareto.spaces
for package in (vitpareto.spaces, vitpareto.cost_models, vitpareto.search):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # Laws need pytest, the worker is a script, and Ray's own parts for Windows are not here.
        if module.name.rpartition(".")[2] not in SKIPPED:
            importlib.import_module(module.name)
"""
LOCK = """
from pathlib import Path
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.search.run.assets import Run
with RunFolder.create(Path("run"), "space: digits\\n", "name: tiny\\n") as folder, Run(folder):
    print("open")
"""


def start(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT + script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "script",
    [HELP.format(words="'--help'"), HELP.format(words="'space', 'size', 'digits'"), MODULES + LOCK],
    ids=["help", "size", "modules and a run folder"],
)
def test_starts(script: str, tmp_path: Path) -> None:
    done = start(script, tmp_path)
    assert done.returncode == 0, done.stderr
