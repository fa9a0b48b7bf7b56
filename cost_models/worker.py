"""Worker: the runner with this package's runtimes. `python -m vitpareto.cost_models.worker DIR`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .device import Device
from .runner import RESULT, pin, time_folder
from .runtimes import open_runtime


def compile_file(path: str, device: dict[str, Any]) -> Any:
    """Compile a file with the device's runtime."""
    return open_runtime(Device.from_dict(device)).compile(path)


def main(folder: Path) -> None:
    """Time the plan of a folder."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    pin(plan["device"])
    answer = time_folder(folder, compile_file)
    (folder / RESULT).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
