import subprocess
import sys
from pathlib import Path

import pytest

from vitpareto.search.cli import commands
from vitpareto.spaces.errors import FailedError, RunError

BIN = Path(sys.executable).with_name("vitpareto")

BAD = [
    (["search", "digis"], "Error: unknown run 'digis'. Did you mean 'digits'?"),
    (["search", "no/such.yaml"], "Error: no/such.yaml: no such run file"),
    (["search", "digits", "--set", "search.trails=3"], "Did you mean 'trials'?"),
    (["verify", "nowhere"], "Error: nowhere: no run folder: it has no config.yaml"),
    (["report", "nowhere"], "Error: nowhere: no run folder: it has no config.yaml"),
    (["serch"], "No such command 'serch'"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_line_and_status_2(words: list[str], message: str, tmp_path: Path) -> None:
    done = subprocess.run([BIN, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [(FailedError("no candidate could be scored"), 1), (RunError("no such folder"), 2)],
    ids=["failed", "bad input"],
)
def test_a_failed_job_is_told_from_bad_input(
    error: RunError, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(commands, "cli", fail)
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == status
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom vitpareto.search.cli import cli\n"
        "print(sorted({'torch', 'ray', 'optuna', 'onnx', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
