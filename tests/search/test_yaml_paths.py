from pathlib import Path

import pytest

from vitpareto.search.config import load_config
from vitpareto.spaces import ConfigError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run file in a folder beside the current one."""
    for name in ("home", "here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "there" / "run.yaml"


def root_in(file: Path, text: str, *overrides: str) -> str:
    file.write_text(f"space: digits\ndata:\n  root: {text}\n")
    return load_config(file, overrides).data.root


def test_relative_paths_start_at_the_file(file: Path) -> None:
    assert root_in(file, "photos") == str(file.parent / "photos")
    relative = Path("..", "there", "run.yaml")
    assert load_config(relative).data.root == str(file.parent / "photos")


def test_those_of_overrides_and_presets_start_at_the_current_folder(file: Path) -> None:
    assert root_in(file, "photos", "data.root=mine") == str(Path.cwd() / "mine")
    assert load_config("imagefolder").data.root == str(Path.cwd() / "images")


def test_what_is_only_in_the_current_folder_is_found(file: Path) -> None:
    (Path.cwd() / "photos").mkdir()
    assert root_in(file, "photos") == str(Path.cwd() / "photos")
    (file.parent / "photos").mkdir()
    assert root_in(file, "photos") == str(file.parent / "photos")


@pytest.mark.parametrize("text", ["~", "~/photos"])
def test_home(file: Path, text: str) -> None:
    wanted = str(file.parents[1] / "home" / text[2:])
    assert root_in(file, text) == root_in(file, "x", f"data.root={text}") == wanted
    assert root_in(file, "~nobody_at_all/x") == str(file.parent / "~nobody_at_all" / "x")


def test_every_path_and_no_name(file: Path) -> None:
    file.write_text(
        "space: my.yaml\ndevice: {name: sub/dev.yaml, cost_model: ~/m.json}\n"
        "teacher: {model: resnet18, checkpoint: w.pth}\n"
        "start: {model: 'local-dir:vit', checkpoint: s.pth, classes: names.txt}\n"
    )
    config, folder = load_config(file), file.parent
    assert config.space == str(folder / "my.yaml")
    assert config.device.name == str(folder / "sub" / "dev.yaml")
    assert config.device.cost_model == str(file.parents[1] / "home" / "m.json")
    assert config.teacher.checkpoint == str(folder / "w.pth")
    start = config.start
    assert (config.teacher.model, start.model) == ("resnet18", f"local-dir:{folder / 'vit'}")
    assert (start.checkpoint, start.classes) == (str(folder / "s.pth"), str(folder / "names.txt"))
    for name, wanted in {
        "a/b": str(folder / "a" / "b"),
        "vit": "vit",
        "hf-hub:a/b": "hf-hub:a/b",
    }.items():
        file.write_text(f"space: digits\nstart: {{model: {name}}}\n")
        assert load_config(file).start.model == wanted
    assert (load_config("digits").space, load_config("digits").device.name) == ("digits", "cpu-1t")
    assert (config.data.root, config.data.name) == ("", "digits")


def test_what_is_written_means_the_same_elsewhere(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root_in(file, "photos")
    config = load_config(file, ["device.name=dev.yaml"])
    kept = tmp_path / "home" / "config.yaml"
    kept.write_text(config.to_yaml())
    monkeypatch.chdir(tmp_path / "home")
    assert load_config(kept) == config


def test_a_path_that_yaml_would_cut_is_refused(file: Path) -> None:
    (file.parent / "photos #2").mkdir()
    with pytest.raises(ConfigError, match=r"line 3: data.root: .*'photos #2' exists: .* in quotes"):
        root_in(file, "photos #2 # mine")
    assert root_in(file, "'photos #2' # mine") == str(file.parent / "photos #2")
    assert root_in(file, "photos # mine") == str(file.parent / "photos")
    assert root_in(file, "x", "data.root=photos #2") == str(Path.cwd() / "photos #2")
