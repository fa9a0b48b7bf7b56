"""GPU: name of the one that runs models, for a latency of one says nothing about another.

`nvidia-smi`, which comes with every driver, names those of NVIDIA without loading CUDA, which no
process that is forked later could use any more.

This file needs nothing but Python: it is copied into bundles.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from .energy_meter import NVIDIA

ANSWERS_S = 60.0  # a driver that no program has open is loaded first
VISIBLE, ORDER, AS_LISTED = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
_GPU = re.compile(r"GPU \d+: (?P<name>.+?) \(UUID: (?P<uuid>[^)]+)\)")
_SLICE = re.compile(r"\s+(?P<name>MIG \S+)\s+Device\s+\d+: \(UUID: (?P<uuid>[^)]+)\)")


class _Unit(NamedTuple):
    """A GPU, or a slice of one, with the names by which a program can ask for it."""

    name: str
    uuids: tuple[str, ...]


def gpu_name(chip: str) -> str:
    """Name of the GPU that a program here gets; empty for another chip, or where nothing tells.

    Args:
        chip: in the words of `energy_meter`.
    """
    path = shutil.which("nvidia-smi") if chip == NVIDIA else None
    return first_of(_listed(path), os.environ) if path else ""


def on_gpu(name: str) -> dict[str, str]:
    """What the name of a GPU adds to an identity: nothing where there is none."""
    return {"gpu": name} if name else {}


@cache
def _listed(path: str) -> str:
    try:
        return subprocess.run(
            [path, "-L"], capture_output=True, text=True, timeout=ANSWERS_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def first_of(listed: str, environment: Mapping[str, str]) -> str:
    """Name of the first GPU that CUDA shows, which is the one that models run on.

    CUDA counts the fastest as its first, which the list does not tell: where its GPUs differ and
    no variable settles it, all that it could be are named.

    Args:
        listed: by `nvidia-smi -L`.
        environment: with CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER, if these are set.
    """
    gpus: list[list[_Unit]] = []  # each with its slices, or itself
    for line in listed.splitlines():
        if found := _GPU.match(line):
            gpus.append([_Unit(found["name"], (found["uuid"],))])
        elif gpus and (found := _SLICE.match(line)):
            whole, *slices = gpus[-1]
            own = _Unit(f"{whole.name} {found['name']}", (*whole.uuids, found["uuid"]))
            gpus[-1] = [whole, *slices, own]
    usable = [units[1:] or units for units in gpus]  # of a GPU in slices, only these compute
    shown, in_order = environment.get(VISIBLE), environment.get(ORDER) == AS_LISTED
    first = None if shown is None else shown.partition(",")[0].strip()
    if first is not None and not first.isdecimal():
        asked = [u for units in usable for u in units if first and _is_asked(u, first)]
    elif in_order:
        asked = [u for units in usable[int(first or 0) :][:1] for u in units]
    else:
        asked = [u for units in usable for u in units]
    return " or ".join(dict.fromkeys(unit.name for unit in asked))


def _is_asked(unit: _Unit, words: str) -> bool:
    """Whether a beginning of a UUID means a unit."""
    return any(uuid.startswith(words) for uuid in unit.uuids)
