"""`data show`: what people and programs are told about images, before anything is trained."""

import json
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.search.data.pictures import folder, picture
from vitpareto.search.cli.commands import cli, main
from vitpareto.spaces.errors import RunError

KEYS = {"classes", "channels", "fit", "splits", "skipped", "duplicates", "warnings"}


def show(*words: str, stops: str = ""):
    """What is printed, where a search would be stopped by a problem, or by none."""
    result = CliRunner().invoke(cli, ["data", "show", *words])
    assert isinstance(result.exception, RunError) if stops else result.exit_code == 0
    assert stops in str(result.exception)
    return result


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = folder(tmp_path / "photos", each=10)
    (root / "a" / "broken.jpg").write_bytes(b"")
    (root / "a" / "notes.txt").write_text("x")
    picture(root / ".cache" / "x.png", 1)
    (tmp_path / "run.yaml").write_text("space: cifar\ndata: {root: photos}\n")
    return tmp_path / "run.yaml"


def test_for_programs(photos: Path, tmp_path: Path) -> None:
    files, sheet = tmp_path / "files.csv", tmp_path / "sheet.png"
    result = show(str(photos), "--json", "--files", str(files), "--sheet", str(sheet))
    about = json.loads(result.stdout)
    assert set(about) >= KEYS
    assert (about["classes"], about["channels"]) == (["a", "b"], 3)
    assert about["fit"] in ("crop", "pad", "squash")
    rows = [line.rsplit(",", 2) for line in files.read_text().splitlines()]
    assert rows[0] == ["path", "label", "split"] and len(rows) == 21
    for split, found in about["splits"].items():
        of_split = Counter(label for _, label, where in rows if where == split)
        assert found == {"images": of_split.total(), "by_class": {c: of_split[c] for c in "ab"}}
    assert {row["reason"]: (row["count"], row["first"]) for row in about["skipped"]} == {
        "empty file": (1, ["a/broken.jpg"]),
        "no image format: .txt": (1, ["a/notes.txt"]),
        "hidden or made by the system": (1, [".cache/x.png"]),
    }
    with Image.open(sheet) as image:
        assert min(image.size) > 200


def test_nothing_is_left_to_learn_from(photos: Path, tmp_path: Path) -> None:
    """Every train image is a copy of a test image: it is said, and no page is made of none."""
    root = tmp_path / "copies"
    for split in ("train", "test"):
        folder(root / split, each=3)
    (photos).write_text("space: cifar\ndata: {root: copies}\n")
    words = ("--json", "--sheet", str(tmp_path / "sheet.png"))
    result = show(str(photos), *words, stops="nothing to learn 'a', 'b' from")
    warnings = json.loads(result.stdout)["warnings"]
    assert "nothing to learn 'a', 'b' from" in warnings[0]
    assert not any("always answering" in line for line in warnings)
    assert not (tmp_path / "sheet.png").exists()


def test_for_people(photos: Path) -> None:
    text = show(str(photos)).stdout
    assert "photos: 21 images, 2 classes" in text
    assert "left out: 1 file, empty file: 'a/broken.jpg'" in text
    assert "Networks see 32 x 32 pixels, color" in text
    assert "warning: " in text  # 10 images a class are few


def test_what_would_stop_a_search_is_told_last(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, problem = tmp_path / "files.csv", "1 of 21 images cannot be read"
    words = (str(photos), "--set", "data.broken=0.01", "--files", str(files))
    about = json.loads(show(*words, "--json", stops=problem).stdout)
    stops = [line for line in about["warnings"] if line.startswith("a search would stop: ")]
    assert len(stops) == 1 and problem in stops[0]
    assert len(files.read_text().splitlines()) == 21
    assert f"warning: {stops[0]}" in show(*words, stops=problem).stdout
    monkeypatch.setattr(sys, "argv", ["vitpareto", "data", "show", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"Error: data: {problem}")


def test_digits() -> None:
    about = json.loads(show("digits", "--json").stdout)
    assert about["classes"] == list("0123456789")
    assert sum(split["images"] for split in about["splits"].values()) == 1797


def test_images_in_a_tar(tmp_path: Path) -> None:
    """One of the ways that timm offers."""
    folder(tmp_path / "set", each=10)
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(tmp_path / "set", "set")
    run = tmp_path / "run.yaml"
    run.write_text("space: cifar\ndata: {name: torch/image_folder, root: set}\n")
    result = CliRunner().invoke(cli, ["data", "show", str(run)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("option", ["--files", "--sheet"])
@pytest.mark.parametrize("name", ["run.yaml", "photos/a/0.png", "table.csv"])
def test_what_is_read_is_not_written_over(photos: Path, option: str, name: str) -> None:
    (photos.parent / "table.csv").write_text("path,label\nphotos/a/0.png,a\n")
    words = ["data", "show", str(photos), option, str(out := photos.parent / name)]
    if name == "table.csv":
        words += ["--set", f"data.root={out}"]
    before = out.read_bytes()
    with pytest.raises(RunError, match="is read by this run, nothing was written"):
        CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("file", "message"), [(".", "is a folder"), ("a.csv/b", "cannot be written")]
)
def test_a_table_that_cannot_be_written(photos: Path, file: str, message: str) -> None:
    photos.with_name("a.csv").write_text("x")
    words = [
        "data",
        "show",
        str(photos),
        "--files",
        file if file == "." else str(photos.parent / file),
    ]
    with pytest.raises(RunError, match=message):
        CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
