"""Packages: where npm has put the runtimes of the web, and where the programs are that run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ...spaces.errors import MissingRuntimeError

ORT, LITERT, LITERT_UTILS = "onnxruntime-web", "@litertjs/core", "@litertjs/wasm-utils"
FOLDER = "VITPARETO_NODE_MODULES"  # environment: a folder in which npm has put packages
NODE, CHROMIUM = "node", "chromium"  # providers
WASM, WEBGPU = "wasm", "webgpu"  # what executes models there
PROGRAMS = {
    NODE: ("node", "nodejs"),
    CHROMIUM: ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
}
CHOSEN = {NODE: "NODE_BINARY", CHROMIUM: "CHROME_PATH"}  # environment: the program itself
CALLED = {NODE: "Node.js 18 or later", CHROMIUM: "Chromium or Chrome"}
ANSWERS_S = 30.0  # in which a program tells its version


def package(name: str) -> Path:
    """The folder of a package.

    It is in the folder that `VITPARETO_NODE_MODULES` names, or in the `node_modules` of the
    current folder or of the nearest one above it that has the package.

    Raises:
        ModuleNotFoundError: in none of them.
    """
    named = os.environ.get(FOLDER)
    here = Path.cwd()
    places = [Path(named)] if named else [at / "node_modules" for at in (here, *here.parents)]
    for place in places:
        if (place / name / "package.json").is_file():
            return place / name
    raise ModuleNotFoundError(f"no {name} in {' or '.join(map(str, places[:1]))} or above")


def package_version(name: str) -> str:
    """Version of a package; empty where there is none."""
    try:
        about = package(name) / "package.json"
        return str(json.loads(about.read_text(encoding="utf-8"))["version"])
    except (ModuleNotFoundError, OSError, ValueError, KeyError):
        return ""


def program(provider: str) -> str:
    """Path of the program that a provider is.

    Raises:
        MissingRuntimeError: it is not here.
    """
    chosen = os.environ.get(CHOSEN[provider])
    names = (chosen,) if chosen else PROGRAMS[provider]
    if found := next(filter(None, map(shutil.which, names)), None):
        return found
    raise MissingRuntimeError(
        f"{CALLED[provider]} is needed, and {' or '.join(names)} is not on the PATH: install it, "
        f"or name the program in {CHOSEN[provider]}"
    )


def host_version(provider: str) -> str:
    """Name and version of the program that a provider is; empty where it is not here."""
    try:
        return _asked(program(provider))
    except (KeyError, MissingRuntimeError):
        return ""


@cache
def _asked(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=ANSWERS_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    number = re.search(r"\d+(\.\d+)+", done.stdout)
    return f"{Path(path).stem} {number[0]}" if number else ""
