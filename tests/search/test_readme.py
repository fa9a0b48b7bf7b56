"""The README is true: its snippets run, its commands exist and work, its links lead on."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from vitpareto.search.cli.commands import cli
from vitpareto.search.config import load_config
from vitpareto.spaces import SearchSpace

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SNIPPETS = [text for kind, text in BLOCKS if kind == "python"]
FILES = [text for kind, text in BLOCKS if kind == "yaml"]
INDENTED = re.findall(r"^    (?:\$ )?(vitpareto .*?)(?:\s+#.*)?$", TEXT, re.MULTILINE)
COMMANDS = [*INDENTED, *re.findall(r"`(vitpareto [^`]+ [^`]+)`", TEXT)]
SMALL = {
    "search": [
        *("--set", "teacher.epochs=1", "--set", "supernet.epochs=1", "--set", "finish.epochs=1"),
        *("--set", "forecast.candidates=0", "--set", "search.trials=8"),
        *("--set", "device.calibrate_s=5", "--set", "executor.threads=1"),
    ],
    "calibrate": ["--budget-s", "6"],
}


def words_of(command: str) -> tuple[list[str], str]:
    """Words of a command, and the file to which it prints."""
    command, _, file = command.partition(" > ")
    return shlex.split(command)[1:], file


def test_there_is_something_to_check() -> None:
    assert len(SNIPPETS) >= 5
    assert len(FILES) >= 2
    assert {words_of(command)[0][0] for command in COMMANDS} >= {
        *("search", "report", "verify", "ladder", "export", "devices", "calibrate", "predict"),
        "space",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist_with_their_options(command: str) -> None:
    words, _ = words_of(command)
    if words[0] == "proxy" and len(words) == 1:
        return
    with cli.make_context("vitpareto", list(words), resilient_parsing=False) as context:
        name, verb, rest = cli.resolve_command(context, words)
        assert name
        assert verb
        while hasattr(verb, "commands") and rest:  # a group, such as `space`
            name, verb, rest = verb.resolve_command(context, rest)
        verb.make_context(name, rest, parent=context)


def test_make_knows_the_targets() -> None:
    made = re.findall(r"^    make (\S+)", TEXT, re.MULTILINE)
    assert made[:2] == ["demo", "test"]
    done = subprocess.run(
        ["make", "-n", *made], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "vitpareto search digits" in done.stdout


@pytest.mark.parametrize("text", FILES, ids=lambda text: text.split("\n")[0])
def test_files_are_what_they_show(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    if "stages" in yaml.safe_load(text):
        assert SearchSpace.from_yaml(path).size > 1
    else:
        assert len(text.splitlines()) <= 10
        assert load_config(path).search.limits


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    files = re.findall(r"`((?:configs|tests|search|spaces)/[\w./]+)`", TEXT)
    others = [link for link in links if not link.startswith("#")]
    for name in [*others, *files, "CONTRIBUTING.md", "CHANGELOG.md"]:
        assert (ROOT / name).exists(), name
    titles = re.findall(r"^##+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's reader works."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.parametrize("text", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets(text: str, folder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has all its names from itself, and warns of nothing."""
    if not (folder / "runs").exists():
        shutil.copytree(finished, folder / "runs" / "digits")
    monkeypatch.chdir(folder)
    exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.slow
def test_the_tour(tmp_path: Path) -> None:
    """Every indented command in the order of the page, with small budgets, from one folder."""
    folder = tmp_path
    for kind in ("cat", "dog"):
        (folder / "photos" / kind).mkdir(parents=True)
        for i in range(30):
            color = (200, 3 * i, 40) if kind == "cat" else (40, 3 * i, 200)
            Image.new("RGB", (40, 36), color).save(folder / "photos" / kind / f"{i}.jpg")
    (own,) = [text for text in FILES if not {"stages", "start"} & yaml.safe_load(text).keys()]
    (folder / "photos.yaml").write_text(own)
    (folder / "typo.yaml").write_text("input_size: 8\npatch_size: 4\nstages:\n  - depth: 1\n"
                                      "    width: 8\n    blocks: {mixer: sofmax}\n")  # fmt: skip
    for command in ["vitpareto search digits", *INDENTED, *COMMANDS[len(INDENTED) :]]:
        words, file = words_of(command)
        if len(words) == 1 and words[0] != "devices":
            continue
        if "mine" in command:  # an own network: its weights, a checkpoint, or a run of it
            continue
        if "board" in command or "--measured" in words:  # another machine
            continue
        more = [] if "--bundle" in words else SMALL.get(words[0], [])
        done = subprocess.run(
            [BIN / "vitpareto", *words, *more],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        wanted = (2,) if "typo.yaml" in words else (0, 3)  # so little training may miss a check
        assert done.returncode in wanted, f"{command}\n{done.stderr}"
        if file:
            (folder / file).write_text(done.stdout)
