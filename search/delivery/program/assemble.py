"""Assemble: several of our files as one program, which needs no other of them."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ....cost_models import Device
from ....cost_models.standalone.onnxruntime_graph import providers_of, settings_of
from ...data import decoding
from . import predict


def program(device: Device, part: ModuleType) -> str:
    """Source of a program that classifies images as the model was verified on a device.

    Args:
        device: whose provider and number of threads it takes.
        part: the file of this folder that opens and runs a model, for the runtime of the device.
    """
    imported: dict[str, set[str]] = {}
    bodies = [_body(module, imported) for module in (decoding, part, predict)]
    about = f'"""{predict.__doc__}"""'
    future = "from __future__ import annotations"
    head = "\n\n".join([about, future, _imports(imported)])
    source = "\n\n\n".join([head, *bodies]) + "\n"
    values: dict[str, Any] = {"THREADS": device.threads, "PROVIDER": device.provider}
    if "SESSION" in vars(part):
        providers = providers_of(device.to_dict())
        values |= {"SESSION": settings_of(device.to_dict()), "PROVIDERS": providers}
    for name, value in values.items():
        known = re.search(rf"^({name}(?:: .+)?) = .+$", source, re.MULTILINE)
        assert known
        source = f"{source[: known.end(1)]} = {_quoted(value)}{source[known.end() :]}"
    return source


def _body(module: ModuleType, imported: dict[str, set[str]]) -> str:
    """What follows the imports of a file, which are added to those of all: module -> names."""
    source = inspect.getsource(module)
    last = 0
    for node in ast.parse(source).body[1:]:  # after the docstring
        if isinstance(node, ast.Import):
            for alias in node.names:
                words = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
                imported.setdefault(words, set())
        elif isinstance(node, ast.ImportFrom):
            if not node.level and node.module != "__future__":
                names = (alias.name for alias in node.names)
                imported.setdefault(f"from {node.module}", set()).update(names)
        else:
            break
        last = node.end_lineno or last
    return "\n".join(source.splitlines()[last:]).strip()


def _imports(imported: Mapping[str, set[str]]) -> str:
    """Import statements, those of the standard library first."""
    groups: tuple[list[str], list[str]] = ([], [])
    for words, names in sorted(imported.items(), key=lambda item: (bool(item[1]), item[0].lower())):
        module = words.removeprefix("from ").split()[0].partition(".")[0]
        line = f"{words} import {', '.join(sorted(names))}" if names else f"import {words}"
        groups[module not in sys.stdlib_module_names].append(line)
    return "\n\n".join("\n".join(group) for group in groups if group)


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
