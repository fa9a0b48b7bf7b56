"""Examples in docstrings run, and public names are listed in order."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [p for layer in ("spaces", "cost_models", "search") for p in (ROOT / layer).rglob("*.py")]
MODULES = {
    "vitpareto." + ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(FILES)
}
WITH_EXAMPLES = [name for name, path in MODULES.items() if ">>> " in path.read_text()]
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names(name: str) -> None:
    package = importlib.import_module(name)
    listed = getattr(package, "__all__", [])
    assert listed == sorted(listed, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert all(hasattr(package, public) for public in listed)


def test_every_module_says_what_it_is() -> None:
    trees = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
    assert not [name for name, tree in trees.items() if not ast.get_docstring(tree)]
