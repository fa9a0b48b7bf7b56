"""What newcomers get wrong: one line that leads on, status 2, and nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vitpareto.search.cli.commands import main
from vitpareto.search.store.run_folder import RunFolder

FEW = ("few", {"cat": 3, "dog": 3})
BAD = [
    ("digis", "unknown run 'digis'. Did you mean 'digits'?"),
    ("nowhere.yaml", "nowhere.yaml: no such run file"),
    ("imagefolder", "data.root: no such folder: "),
    (
        "imagefolder --set data.root=few",
        "class 'cat' has too few images for the splits train, search, ",
    ),
    ("imagefolder --set data.root=one", "needs folders of two or more classes, has 'cat'"),
    ("digits --set space=digit", "unknown space 'digit'. Did you mean 'digits'?"),
    ("digits --set device.name=cpu1t", "unknown device 'cpu1t'. Did you mean 'cpu-1t'?"),
    ("digits --set device.name=cuda", "device 'cuda' needs CUDAExecutionProvider, this ONNX"),
    (
        "digits --set device=tensorrt",
        "device: needs keys of its own below it, such as device.name=tensorrt, got 'tensorrt'",
    ),
    ("digits --set device.cost_model=no.json", "no.json: cannot be read: No such file"),
    ("digits --set search.trials=0", "--set search.trials=0: search.trials: Input should be great"),
    (
        "digits --set search.limits.latency=2",
        "--set search.limits.latency=2: search.limits: no such",
    ),
    ("digits --budget 15", "--set budget=15: budget: a duration has units, such as 90s, 15min"),
    ("digits --set data.fit=cropp", "data.fit: no such value 'cropp'. Did you mean 'crop'?"),
    ("digits --set data.balance=wieght", "no such value 'wieght'. Did you mean 'weight'?"),
    (
        "digits --set data.search=0.5 --set data.validation=0.5 --dry-run",
        "data.search 0.5, data.validation 0.5, data.test 0.15: add up to 1.15, so no image",
    ),
    (
        "digits --set start.model=resnet18",
        "start.model: resnet18: no converter for timm.ResNet; there are some for timm.Vision",
    ),
    ("digits --set start.model=~/w.pth", "need the name of a timm model, got the path"),
    ("digits --set teacher.img_size=96", "teacher.img_size: pixels of which model? Name it in"),
    ("digits --run-dir few/cat/0.png/run", "few/cat/0.png is a file: name another"),
    ("digits --run-dir /proc/run", "/proc/run/space.yaml: cannot be written: "),
    ("wrong.yaml", "wrong.yaml: line 4: unknown key 'search.trails'. Did you mean 'trials'?"),
    (
        "section.yaml",
        "line 2: search: needs keys of its own below it, such as search.sampler, got 3",
    ),
    ("broken.yaml", "broken.yaml: line 3: "),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the mistakes are about."""
    for folder, classes in (FEW, ("one", {"cat": 9})):
        for name, count in classes.items():
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (40 * i, 9, 9)).save(
                    tmp_path / folder / name / f"{i}.png"
                )
    (tmp_path / "wrong.yaml").write_text("space: digits\nsearch:\n  trials: 3\n  trails: 3\n")
    (tmp_path / "section.yaml").write_text("space: digits\nsearch: 3\n")
    (tmp_path / "broken.yaml").write_text("space: digits\nsearch: [\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, list[str]]:
    """Exit status of a command, and its lines on standard error."""
    monkeypatch.setattr(sys, "argv", ["vitpareto", *words])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0), capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words for words, _ in BAD])
def test_one_line_says_what_to_do(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    before = sorted(here.rglob("*"))
    status, lines = answer(monkeypatch, capsys, "search", *words.split())
    assert status == 2
    assert lines[-1].startswith("Error: ")
    assert message in lines[-1]
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("verb", ["report", "verify", "ladder", "export"])
def test_no_run_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    more = ["--out", "out"] if verb == "export" else []
    status, lines = answer(monkeypatch, capsys, verb, "few", *more)
    assert (status, lines) == (2, ["Error: few: no run folder: it has no config.yaml"])


WITHOUT_EFFECT = [
    ("few --kit kit --runtime litert", "--runtime: a kit holds all delivered models of a run"),
    ("few --kit kit --pick best", "--pick: a kit holds all delivered models of a run"),
    ("few --kit kit --random-weights", "--random-weights: a kit holds all delivered models"),
    ("few --out app --sub-blocks 3", "--sub-blocks: is for --kit"),
    ("few --out app --random-weights", "--random-weights: the models of a run are trained"),
    ("c.json --out app --within latency_ms<=1", "--within: is for run folders, and 'c.json' is"),
]


@pytest.mark.parametrize(("words", "message"), WITHOUT_EFFECT)
def test_an_option_of_export_without_effect_is_refused(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    status, lines = answer(monkeypatch, capsys, "export", *words.split())
    assert status == 2
    assert message in lines[-1]


def test_a_file_where_a_folder_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("calibrate", "cpu-1t", "--space", "digits", "--bundle", "wrong.yaml")
    status, lines = answer(monkeypatch, capsys, *words)
    assert (status, lines[-1]) == (2, "Error: wrong.yaml: Not a directory")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("export nowhere --out out", "nowhere: no such run folder, and no such file of candidates"),
        ("space derive nothing --out few", "few: is a folder: name a file"),
        (
            "space derive nothing --out wrong.yaml",
            "wrong.yaml: exists already, nothing was written",
        ),
        (
            "space sample digits -n 99999999999",
            "Invalid value for '-n': 99999999999 is not in the range 1<=x<=100000.",
        ),
        (
            "calibrate cpu-1t --space digits --budget-s nan --out m.json",
            "--budget-s: need a number of seconds, got nan",
        ),
    ],
)
def test_what_is_missing_or_in_the_way(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    before = sorted(here.rglob("*"))
    status, lines = answer(monkeypatch, capsys, *words.split())
    assert (status, lines[-1]) == (2, f"Error: {message}")
    assert sorted(here.rglob("*")) == before


def test_a_finished_run_is_not_overwritten(
    finished: Path,
    run_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("search", str(run_file), "--run-dir", str(finished))
    status, lines = answer(monkeypatch, capsys, *words)
    assert status == 2
    assert "continue it with --resume, or name another folder with --run-dir" in lines[0]


def test_a_run_in_which_nothing_ended_can_be_started_again(tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path / "run", "a: 1", "b: 1")
    first.close()
    with RunFolder.create(tmp_path / "run", "a: 2", "b: 2") as second:
        assert second.config.read_text() == "a: 2"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without permission")
def test_no_permission(tmp_path: Path) -> None:
    """In a child that gives up its rights; its own interpreter would not be readable any more."""
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from vitpareto.search.store.run_folder import RunFolder\n"
        "from vitpareto.spaces.errors import RunError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try:\n    RunFolder.check_free(Path(sys.argv[1]))\n"
        "except RunError as error:\n    print(error)\n"
    )
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[: 3 if "PYTEST_XDIST_WORKER" in os.environ else 2]:
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, check=True
    )
    wanted = f"{tmp_path / 'run'}: no permission to write in {tmp_path}: name another --run-dir\n"
    assert done.stdout == wanted
