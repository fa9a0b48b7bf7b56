import time

import pytest

from vitpareto.search.console import progress, share_bar


def test_a_log_gets_lines_that_can_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vitpareto.search.console.EVERY_S", 0.05)
    with progress(3, "teacher") as bar:
        for _ in range(3):
            time.sleep(0.1)
            bar.update()
    with share_bar("calibrating") as report:
        time.sleep(0.1)
        report(0.5, "measuring")
    *_, counted, half, whole = capsys.readouterr().err.splitlines()
    assert counted.startswith("teacher: 3 of 3 steps, ")
    assert half.startswith("calibrating: 50%, ")
    assert half.endswith("left, measuring")
    assert whole.startswith("calibrating: 100%, ")


def test_what_is_done_at_once_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "reading") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
