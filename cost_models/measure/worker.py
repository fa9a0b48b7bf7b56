"""Worker: the runner with this package's runtimes, in a process of its own.

Called as `python -m vitpareto.cost_models.measure.worker DIR WAY`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..device import Device
from ..runtimes import open_runtime
from ..standalone.runner import pin, time_folder
from ..standalone.timing import RESULT


def compile_file(path: str, device: dict[str, Any]) -> Any:
    """Compile a file with the device's runtime."""
    return open_runtime(Device.from_dict(device)).compile(path)


def main(folder: Path, way: str) -> None:
    """Time the plan of a folder in one way."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    pin(plan["device"])
    answer = time_folder(folder, compile_file, way)
    (folder / RESULT).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
