"""Page: a folder that any web server can serve, which classifies images in the browser.

The file that opens the model in the page is the one that opened it when it was measured.
"""

from __future__ import annotations

import json
from pathlib import Path

from ....cost_models import Device
from ....cost_models.web import host
from ....cost_models.web.packages import WASM
from ....cost_models.web.parts import RUNTIMES, Parts, parts_of
from ....spaces import Candidate
from ..preprocessing import Preprocessing, metadata

__all__ = ["FILES", "RUNTIME", "RUNTIMES", "executes", "page", "parts_for"]
OWN = Path(__file__).parent
FILES = ("index.html", "classify.mjs")
RUNTIME = "runtime.mjs"  # opens the model


def page(
    candidate: Candidate, device: Device, preprocessing: Preprocessing | None, model: str
) -> dict[str, bytes | str]:
    """Files of a page that runs a model beside it, with the device's runtime itself.

    Args:
        candidate: of the model.
        device: whose threads it takes, where the server lets pages have threads.
        preprocessing: of images, and the names of classes.
        model: name of its file.

    Raises:
        ModuleNotFoundError: the runtime is not installed here.
    """
    parts = parts_for(device)
    runs = {
        "model": model,
        "threads": device.threads,
        "provider": executes(device),
        "script": parts.script,
        "channels_last": parts.channels_last,
    }
    about = metadata(candidate, preprocessing) | runs
    return {
        "about.json": json.dumps(about, indent=1) + "\n",
        **{name: (OWN / name).read_text(encoding="utf-8") for name in FILES},
        RUNTIME: (host.OWN / parts.engine).read_text(encoding="utf-8"),
        **{name: path.read_bytes() for name, path in parts.files.items()},
    }


def parts_for(device: Device) -> Parts:
    """What pages load to run the models of a device.

    Raises:
        ModuleNotFoundError: its runtime is not installed here.
    """
    return parts_of(device.runtime, executes(device), device.threads)


def executes(device: Device) -> str:
    """What executes the models of a device for the web."""
    return str(dict(device.options).get("provider", WASM))
