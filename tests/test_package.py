"""What is installed: every file of the tree, light to import, usable from any folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from .shared import made_once

ROOT = Path(__file__).parents[1]
FOLDERS = ("spaces", "cost_models", "search", "configs")
HEAVY = ("torch", "ray", "optuna", "onnx", "onnxruntime", "timm", "sklearn", "matplotlib")


def python(code: str, folder: Path, path: Path | None = None) -> str:
    """Standard output of a Python program that runs in a folder."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import vitpareto.spaces",
        "import vitpareto.cost_models",
        "from vitpareto.spaces import SearchSpace; SearchSpace.from_yaml('digits').sample(2)",
        "import sys; sys.argv[1:] = ['--help']; from vitpareto.search.cli import main; main()",
    ],
)
def test_light_to_import(code: str, tmp_path: Path) -> None:
    check = f"import sys, json; print(json.dumps(sorted(set({HEAVY}) & set(sys.modules))))"
    assert json.loads(python(f"{code}\n{check}", tmp_path).splitlines()[-1]) == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the tree."""

    def build(out: Path) -> None:
        source = out / "source"
        for folder in FOLDERS:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, source)
        pip(*("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source))

    [found] = made_once(tmp_path_factory, "wheel", build).glob("*.whl")
    return found


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *map(str, arguments)], capture_output=True, check=True)


def test_the_wheel_holds_the_tree(wheel: Path) -> None:
    expected = {
        f"vitpareto/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".typed", ".html", ".mjs")
    }
    found = {name for name in ZipFile(wheel).namelist() if not name.startswith("vitpareto-")}
    assert found == expected


def test_installed_elsewhere(wheel: Path, tmp_path: Path) -> None:
    site, folder = tmp_path / "site", tmp_path / "folder"
    folder.mkdir()
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    code = """
import vitpareto.spaces.space as module
print(module.__file__, *sorted(path.stem for path in module.PRESETS.glob("*.yaml")))
print(module.SearchSpace.from_yaml("digits").size)
"""
    where, size = python(code, folder, site).splitlines()
    presets = sorted(path.stem for path in (ROOT / "configs" / "spaces").glob("*.yaml"))
    assert where.split() == [str(site / "vitpareto/spaces/space.py"), *presets]
    assert int(size) > 1
    command = """
import sys
from vitpareto.search.cli import main
sys.argv[1:] = ["space", "size", "digits"]
main()
"""
    assert size in python(command, folder, site).replace(",", "")
