"""Kit page: what of a kit runs in a browser, and the program that serves it and reads results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ...cost_models import Device
from ...cost_models.calibration.bundle import copy_modules
from ...cost_models.runtimes import find_runtime
from ...cost_models.runtimes.web import query
from ...cost_models.standalone.browser import PAGE
from ...cost_models.web.host import OWN
from ...cost_models.web.packages import CHROMIUM
from ...spaces.errors import MissingRuntimeError
from .page import RUNTIMES, executes, parts_for

PROGRAM = {"browser": "page", "kit_files": "kit_files", "seal": "seal", "timing": "timing"}


def in_browser(device: Device) -> bool:
    """Whether a device is a browser."""
    return device.runtime in RUNTIMES and device.provider == CHROMIUM


def check_page(device: Device) -> None:
    """Check that the runtime is here whose files a kit for a browser brings.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    spec = find_runtime(device.runtime)
    try:
        parts_for(device)
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(
            f"a kit for {device.name!r} brings {spec.name}, which is not installed: {spec.command}"
        ) from error


def write_page(device: Device, folder: Path) -> None:
    """Write a page that measures a kit, and its program.

    Args:
        device: a browser.
        folder: of the kit.

    Raises:
        ModuleNotFoundError: the runtime is not installed here.
    """
    parts = parts_for(device)
    shutil.copy(OWN / "measure.html", folder / "index.html")
    for name in ("measure.mjs", "page.html", "engine.mjs", parts.engine):
        shutil.copy(OWN / name, folder / name)
    for name, path in parts.files.items():
        shutil.copy(path, folder / name)
    about = query(parts, executes(device), device.threads)
    about |= {"version": find_runtime(device.runtime).version}
    told = {**about, "channels_last": parts.channels_last}
    (folder / PAGE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    copy_modules(folder, PROGRAM)
