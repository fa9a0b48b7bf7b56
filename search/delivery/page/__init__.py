"""Page: a folder that any web server can serve, which classifies images in the browser."""

from __future__ import annotations

import json
from pathlib import Path

from ....cost_models import Device
from ....cost_models.web.packages import FILES as RUNTIME
from ....cost_models.web.packages import WASM, dist
from ....spaces import Candidate
from ..preprocessing import Preprocessing, metadata

OWN = Path(__file__).parent
FILES = ("index.html", "classify.mjs")


def page(
    candidate: Candidate, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    """Files of a page that runs `model.onnx` beside it, with onnxruntime-web itself.

    Args:
        candidate: of the model.
        device: whose threads it takes, where the server lets pages have threads.
        preprocessing: of images, and the names of classes.

    Raises:
        ModuleNotFoundError: onnxruntime-web is not installed here.
    """
    executes = str(dict(device.options).get("provider", WASM))
    runs = {"threads": device.threads, "provider": executes, "script": RUNTIME[executes][0]}
    about = metadata(candidate, preprocessing) | runs
    return {
        "about.json": json.dumps(about, indent=1) + "\n",
        **{name: (OWN / name).read_text(encoding="utf-8") for name in FILES},
        **{name: (dist() / name).read_bytes() for name in RUNTIME[executes]},
    }
