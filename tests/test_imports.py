"""The import graph is the architecture: edges point down, heavy libraries stay in one file.

An import counts wherever it stands: inside a function and under `TYPE_CHECKING` it is an edge like
any other. `python tests/test_imports.py` prints the graph's figures.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("spaces", "cost_models", "search")  # each may import itself and those before it
# Rooms of a package, floor by floor: a room may import itself and what is below it.
FLOORS = {
    "cost_models": (
        ("onnx_ranking", "openmp", "runtime_spec", "standalone", "stored_weights", "web"),
        ("hand_over", "onnx_reading"),
        ("stored_floats",),
        ("coreml", "mnn", "ncnn", "units", "tflite"),
        ("device", "executorch"),
        ("runtimes", "tables"),
        ("graphs", "predict"),
        ("measure", "foreign"),
        ("calibration", "profile", "sweep"),
    ),
    "search": (
        (
            "console",
            "cores",
            "counted",
            "durations",
            "letters",
            "pareto",
            "samplers",
            "store",
            "yaml_paths",
        ),
        ("config", "compress"),
        ("data", "executors"),
        ("training",),
        ("library", "start"),
        ("scoring",),
        ("loop", "delivery"),
        ("run",),
        ("experiments", "report"),
        ("pipeline", "watch"),
        ("dry_run",),
        ("cli",),
    ),
}
FENCED = {
    "optuna": ("search/loop/optuna_sampler.py", "search/loop/from_optuna.py"),
    # Scoring is tasks, training together a process group: two uses with nothing in common.
    "ray": ("search/executors.py", "search/training/ray_train.py"),
    "click": (
        "search/cli/commands.py",
        "search/cli/costs.py",
        "search/cli/data.py",
        "search/cli/devices.py",
        "search/cli/export.py",
        "search/cli/folders.py",
        "search/cli/library.py",
        "search/cli/options.py",
        "search/cli/output.py",
        "search/cli/profile.py",
        "search/cli/runs.py",
        "search/cli/search.py",
        "search/cli/space.py",
        "search/cli/sweep.py",
        "search/cli/targets.py",
        "search/cli/verify.py",
    ),
    "pydantic": tuple(
        f"search/config/{name}.py"
        for name in ("messages", "reading", "run", "section", "sections", "trainings")
    ),
    "matplotlib": (
        "search/data/contact_sheet.py",
        "search/experiments/sampler_comparison.py",
        "search/experiments/proxy_plot.py",
        "search/library/picture.py",
        "search/report/picture.py",
    ),
    "timm": (
        "search/data/sources/timm_dataset.py",
        "search/start/models.py",
        "search/start/weights.py",
        "search/training/checkpoint_file.py",
        "search/training/timm_models.py",
    ),
    "transformers": ("search/start/models.py",),
    "huggingface_hub": ("search/training/hub.py",),
    "torchvision": ("search/start/models.py",),
    "joblib": ("search/cores.py",),  # to count cores; it would also read pickles
    "scipy": ("search/data/assignment.py", "search/training/ready_teacher.py"),
    "sklearn": ("search/data/digits.py",),
    "imagehash": ("search/data/duplicates.py",),
    # What is standalone is copied into bundles and kits, where it stands without the adapters.
    "onnxruntime": (
        *("cost_models/standalone/onnxruntime_graph.py", "cost_models/runtimes/onnxruntime.py"),
        *("cost_models/runtimes/qnn.py", "cost_models/runtimes/qnn_integers.py"),
        "search/delivery/program/onnxruntime.py",  # delivered in a program of its own
    ),
    "openvino": ("cost_models/runtimes/openvino.py",),
    "ai_edge_litert": ("cost_models/runtimes/litert.py",),
    "executorch": ("cost_models/runtimes/executorch.py",),
    "ncnn": ("cost_models/runtimes/ncnn.py",),
    "MNN": ("cost_models/runtimes/mnn.py",),
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


def test_edges_point_down() -> None:
    for path in FILES:
        layer = path.relative_to(ROOT).parts[0]
        ours = {name[0] for name in imports(path, ast.walk(tree_of(path)))} - {""}
        upward = ours & set(LAYERS[LAYERS.index(layer) + 1 :])
        assert not upward, f"{path}: {layer} must not import {upward}"
        assert ours <= {*LAYERS, "configs"}, path
        absolute = third_party(path) & {"vitpareto", *LAYERS}
        assert not absolute, f"{path}: use relative imports inside the project"


def test_heavy_libraries_are_fenced() -> None:
    loose = [
        f"{file} imports {library}; allowed only in {FENCED[library]}"
        for file, path in zip(map(name_of, FILES), FILES, strict=True)
        for library in third_party(path) & FENCED.keys()
        if file not in FENCED[library]
    ]
    assert not loose


def test_nothing_unsafe_is_read() -> None:
    """Strangers' files: no pickles, and YAML only through `spaces/safe_yaml.py`."""
    for path in FILES:
        if name_of(path) != "search/executors.py":  # between its own processes, never from a file
            assert not third_party(path) & {"pickle", "dill", "marshal", "shelve"}, path
        loads = {
            node.attr
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "yaml"
            and "load" in node.attr
        }
        assert not loads or name_of(path) == "spaces/safe_yaml.py", path


@cache
def edges() -> Mapping[str, frozenset[str]]:
    """File -> files of ours that it imports, wherever in it the import stands."""
    graph: dict[str, frozenset[str]] = {}
    for path in FILES:
        needed: set[str] = set()
        for parts in imports(path, ast.walk(tree_of(path))):
            if parts[0] not in LAYERS:
                continue
            module, package = ROOT.joinpath(*parts).with_suffix(".py"), ROOT.joinpath(*parts)
            inside = ROOT.joinpath(*parts[:-1])
            candidates = (module, package / "__init__.py", inside.with_suffix(".py"))
            chosen = next((p for p in candidates if p.is_file()), inside / "__init__.py")
            needed.add(name_of(chosen))
        graph[name_of(path)] = frozenset(needed - {name_of(path)})
    return graph


def room_of(file: str) -> str:
    """Folder in its package, or the file itself where it stands alone: "search/run"."""
    package, name = file.split("/")[:2]
    return f"{package}/{name.removesuffix('.py')}"


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Names that lead back to the first one; empty where nothing does."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_circles() -> None:
    """Modules that import each other are one module in two files."""
    assert not circle(edges())


@pytest.mark.parametrize("package", FLOORS)
def test_floors(package: str) -> None:
    floor = {f"{package}/{room}": i for i, rooms in enumerate(FLOORS[package]) for room in rooms}
    inner = {f: e for f, e in edges().items() if f.startswith(package) and "__init__" not in f}
    assert {room_of(file) for file in inner} == floor.keys()
    upward = [
        f"{file} -> {other}"
        for file, others in inner.items()
        for other in others
        if other.startswith(package)
        and room_of(other) != room_of(file)
        and floor[room_of(other)] >= floor[room_of(file)]
    ]
    assert not upward


def test_what_is_counted() -> None:
    """The graph above sees late imports: the commands have no others."""
    assert any(f.startswith("search/run/") for f in edges()["search/cli/search.py"])


if __name__ == "__main__":
    count = sum(map(len, edges().values()))
    print(f"{len(FILES)} files, {count} edges, circle: {circle(edges()) or 'none'}")
    for name, floors in FLOORS.items():
        print(f"{name}: {sum(map(len, floors))} rooms on {len(floors)} floors")
        for number, rooms in enumerate(floors):
            print(f"  {number}  {', '.join(rooms)}")
