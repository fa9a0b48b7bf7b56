"""The import graph is the architecture: edges point down, heavy libraries stay in one file."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("spaces", "cost_models", "search")  # each may import itself and those before it
FENCED = {
    "optuna": ("search/loop/optuna_sampler.py", "search/loop/from_optuna.py"),
    # Scoring is tasks, training together a process group: two uses with nothing in common.
    "ray": ("search/executors.py", "search/training/ray_train.py"),
    "click": ("search/cli/commands.py", "search/cli/costs.py", "search/cli/output.py"),
    "pydantic": ("search/config.py",),
    "matplotlib": (
        "search/experiments/sampler_comparison.py",
        "search/experiments/proxy_plot.py",
        "search/report/picture.py",
    ),
    "timm": ("search/data/timm_dataset.py", "search/training/timm_models.py"),
    "sklearn": ("search/data/digits.py",),
    # The runner is copied into bundles, where it stands without the adapters.
    "onnxruntime": ("cost_models/standalone/runner.py", "cost_models/runtimes/onnxruntime.py"),
    "openvino": ("cost_models/runtimes/openvino.py",),
}
FILES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, nodes: Iterator[ast.AST]) -> Iterator[tuple[str, ...]]:
    """Dotted names that a file imports, ours as parts from the root: ("spaces", "block")."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (("", *alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level == 0:
                yield ("", *module)
                continue
            base = package[: len(package) + 1 - node.level] + module
            yield from ((*base, alias.name) for alias in node.names)


def third_party(path: Path) -> set[str]:
    return {name[1] for name in imports(path, ast.walk(tree_of(path))) if name[0] == ""}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_edges_point_down(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    ours = {name[0] for name in imports(path, ast.walk(tree_of(path)))} - {""}
    upward = ours & set(LAYERS[LAYERS.index(layer) + 1 :])
    assert not upward, f"{layer} must not import {upward}"
    assert ours <= {*LAYERS, "configs"}
    assert not third_party(path) & {"vitpareto", *LAYERS}, "use relative imports inside the project"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_libraries_are_fenced(path: Path) -> None:
    loose = {
        lib for lib in third_party(path) if name_of(path) not in FENCED.get(lib, (name_of(path),))
    }
    assert not loose, f"imports {loose}; allowed only in {[FENCED[lib] for lib in loose]}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_unsafe_is_read(path: Path) -> None:
    """Strangers' files: no pickles, and YAML only through `spaces/safe_yaml.py`."""
    if name_of(path) != "search/executors.py":  # between its own processes, never from a file
        assert not third_party(path) & {"pickle", "dill", "joblib", "marshal", "shelve"}
    loads = {
        node.attr
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "yaml"
        and "load" in node.attr
    }
    assert not loads or name_of(path) == "spaces/safe_yaml.py"


def test_no_cycles() -> None:
    """Modules that import each other when they are loaded are one module in two files."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        needed: set[str] = set()
        for parts in imports(path, iter(tree_of(path).body)):
            if parts[0]:
                module, package = ROOT.joinpath(*parts).with_suffix(".py"), ROOT.joinpath(*parts)
                inside = ROOT.joinpath(*parts[:-1])
                found = (module, package / "__init__.py", inside.with_suffix(".py"))
                chosen = next((p for p in found if p.is_file()), inside / "__init__.py")
                needed.add(name_of(chosen))
        graph[name_of(path)] = needed - {name_of(path)}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)
