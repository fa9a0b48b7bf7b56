"""Ctrl-C in every stage: what was finished stays, and the command that is told goes on."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitpareto.search.run.stage import Stage
from vitpareto.search.scoring.evaluation_log import read_evaluations

pytestmark = [pytest.mark.slow, pytest.mark.onnx]
BIN = Path(sys.executable).parent


def interrupted(command: list[str], stage: str) -> str:
    """Runs until a stage has begun, then presses Ctrl-C; what it says last."""
    seen: list[str] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells take it from what they detach
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=quiet, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            seen.append(line)
            if f"{stage}: {Stage(stage).meaning}" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 1, "".join(seen)
    assert "Traceback" not in "".join(seen)
    return seen[-1].strip()


def test_ctrl_c_in_every_stage(finished: Path, run_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["vitpareto", "search", str(run_file), "--run-dir", str(run)]
    for stage in json.loads((finished / "stages.json").read_text()):
        said = interrupted([str(BIN / command[0]), *command[1:]], stage)
        told, _, following = said.partition("go on with: ")
        assert told == "Interrupted. What was finished is kept; "
        command = shlex.split(following)
        assert command[-1] == "--resume"
    last = [str(BIN / command[0]), *command[1:]]
    done = subprocess.run(last, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    found, wanted = (read_evaluations(path / "evaluations.jsonl")[0] for path in (run, finished))
    assert [e.key for e in found] == [e.key for e in wanted]
    assert (run / "report.html").exists()


def test_ctrl_c_elsewhere(run_file: Path, tmp_path: Path) -> None:
    command = [str(BIN / "vitpareto"), "proxy", str(run_file), "--run-dir", str(tmp_path / "run")]
    said = interrupted(command, "teacher")
    assert said == "Interrupted. Run folders keep what is in them: the same command goes on."
