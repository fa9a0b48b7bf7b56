"""A run of digits with a budget, whose timings take seconds."""

from pathlib import Path
from typing import Any

import yaml

from vitpareto.search.config import RunConfig, load_config


def digits_run(space_file: Path, folder: Path, budget: str, **sections: Any) -> RunConfig:
    """The configuration in a new file of a folder."""
    run = {
        "space": str(space_file),
        "data": {"name": "digits"},
        "budget": budget,
        "executor": {"threads": 1, "workers": 1},
        **sections,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    return load_config(path)
