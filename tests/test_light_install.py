"""The package with nothing but what is always installed: the rest says why it does not work."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import click
import numpy as np
import pytest
import yaml

from vitpareto.cost_models import CostModel, LatencyTable
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import MissingPackageError
from vitpareto.spaces.packages import EXTRAS, needed

from .cost_models.conftest import recipes, space, table
from .shared import slow_but
from .test_imports import FILES, third_party
from .test_package import ROOT, pip, wheel

__all__ = ["recipes", "space", "table", "wheel"]  # fixtures of other files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
START = "import sys; sys.path.insert(0, {site!r}); sys.argv[0] = 'vitpareto'\n"
MAIN = "from vitpareto.search.cli import main; main()"
Run = Callable[..., subprocess.CompletedProcess[str]]


def names(requirements: list[str]) -> set[str]:
    """Names of packages, without versions."""
    return {re.split(r"[\[<>=]", line)[0] for line in requirements}


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command, or code, where the wheel and the three packages are all that there is."""
    site = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    for package in (click, np, yaml):
        folder = Path(package.__file__).parent
        for part in (folder, folder.with_name(f"{folder.name}.libs")):
            if part.exists():
                (site / part.name).symlink_to(part)

    def run(*words: str | Path, code: str = MAIN) -> subprocess.CompletedProcess[str]:
        # Without `site`, which would add the packages of this environment.
        command = [sys.executable, "-S", "-c", START.format(site=str(site)) + code, *words]
        return subprocess.run(command, cwd=site.parent, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def model(
    table: LatencyTable, recipes: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.json"
    CostModel.fit(table, recipes).save(path)
    table.save(path.with_suffix(".csv"))
    return path


def test_the_table_of_packages_is_that_of_the_project() -> None:
    extras = PROJECT["optional-dependencies"]
    assert names(PROJECT["dependencies"]) == {"click", "numpy", "pyyaml"}
    for extra, packages in EXTRAS.items():
        own = names(extras[extra]) - {"vitpareto"}
        assert packages.keys() <= own if extra == "cluster" else packages.keys() == own
    for extra, listed in extras.items():
        assert extra == "search" or "vitpareto[search]" in listed
    installed = packages_distributions()
    for packages in EXTRAS.values():
        for name, module in packages.items():
            assert module not in installed or name.lower() in map(str.lower, installed[module])


def test_whatever_is_imported_is_installed_by_the_package_or_an_extra() -> None:
    found = set().union(*map(third_party, FILES)) - set(sys.stdlib_module_names)
    known = {module for packages in EXTRAS.values() for module in packages.values()}
    of_these = {"google": "onnx", "sqlalchemy": "optuna"}
    of_these |= {"torchvision": "timm", "huggingface_hub": "timm"}  # bring them
    others = {"pytest", "hypothesis"}  # of laws
    # Of bundles and kits.
    others |= {"energy_meter", "gpu", "graph", "kit_files", "runner", "seal"}
    others |= {"silence", "timing"}
    others |= {"pynvml", "transformers"}  # used where they are; the latter by folders that it saved
    assert not found - known - {"click", "numpy", "yaml"} - of_these.keys() - others


def test_cost_models_and_spaces_work(light: Run, model: Path, tmp_path: Path) -> None:
    drawn = light("space", "sample", "digits", "-n", "3", "--json")
    assert drawn.returncode == 0, drawn.stderr
    candidates = tmp_path / "candidates.json"
    candidates.write_text(drawn.stdout)
    predicted = light("predict", model, candidates, "--json")
    assert predicted.returncode == 0, predicted.stderr
    rows = json.loads(predicted.stdout)
    drawn_here = SearchSpace.from_yaml("digits").sample(3, 0)
    here = CostModel.load(model).predict(drawn_here)
    assert [row["key"] for row in rows] == [candidate.key for candidate in drawn_here]
    assert [row["latency_ms"] for row in rows] == pytest.approx(here.latency_ms.tolist())
    table, out = tmp_path / "out.csv", tmp_path / "out.json"
    for words in (
        ("--help",),
        ("space", "size", "digits"),
        ("space", "show", "cifar"),
        ("costs", "show", model, "--blocks", "digits"),
        ("costs", "export", model, "--space", "digits", "--format", "csv", "--out", table),
        ("costs", "export", model, "--space", "digits", "--format", "vectors", "--out", out),
        ("costs", "transfer", model, "--space", "digits", "--choose", "3"),
        ("devices",),
    ):
        done = light(*words)
        assert done.returncode == 0, (words, done.stderr)
    assert "onnxruntime, which is not installed: pip install 'vitpareto[search]'" in done.stdout


@pytest.mark.parametrize(
    "words",
    slow_but(
        ("search digits", "verify runs/digits", "devices cpu-1t"),
        [
            "search digits",
            "search digits --dry-run",
            "data show digits",
            "calibrate cpu-1t --space digits --out model.json",
            "report runs/digits",
            "verify runs/digits",
            "ladder runs/digits",
            "proxy digits",
            "export candidates.json --random-weights --out app",
            "export . --out app",
            "devices cpu-1t",
        ],
    ),
)
def test_everything_else_is_one_line(light: Run, words: str) -> None:
    done = light(*words.split())
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and not done.stdout
    assert line.startswith("Error: ") and line.endswith("pip install 'vitpareto[search]'")
    if not words.startswith("devices"):  # where the device says what it lacks
        verb = words.split()[0]
        about = (
            f"Error: {verb} needs packages that are not installed: torch, ray, optuna, onnx and "
        )
        assert line.startswith(about)


def test_an_onnx_file_is_one_line(light: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"")
    done = light("predict", model, tmp_path / "x.onnx")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "needs packages that are not installed: " in line


def test_from_python(light: Run, model: Path) -> None:
    code = """
from vitpareto.cost_models import CostModel
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import MissingPackageError
print(CostModel.load(sys.argv[1]).predict(SearchSpace.from_yaml("digits").sample(5)).latency_ms)
import vitpareto.cost_models, vitpareto.search
for package, name in ((vitpareto.search, "load_run"), (vitpareto.cost_models, "calibrate")):
    try:
        getattr(package, name)
    except MissingPackageError as error:
        print(error)
"""
    done = light(model, code=code)
    assert done.returncode == 0, done.stderr
    *_, search, calibrate = done.stdout.splitlines()
    assert search.startswith("vitpareto.search.load_run needs packages that are not installed: ")
    assert calibrate.startswith("vitpareto.cost_models.calibrate needs packages that are not ")


def test_other_packages_are_not_ours_to_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing_of_ours"), needed("this"):
        import nothing_of_ours  # noqa: F401
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    rule = r"this needs packages that are not installed: pyarrow: .* 'vitpareto\[parquet\]'"
    with pytest.raises(MissingPackageError, match=rule), needed("this"):
        import pyarrow  # noqa: F401
