"""Targeting: the space of a run without what its device cannot execute."""

from __future__ import annotations

from collections.abc import Sequence

from ...cost_models import Device
from ...cost_models.measure.runnable import Refusal, left_out, runnable
from ...cost_models.runtimes import available
from ...spaces import SearchSpace
from ...spaces.errors import CostError, SpaceError
from ...spaces.narrowing import without
from ..config import RunConfig
from ..store.atomic_files import read_json, write_json
from ..store.run_folder import RunPaths


def targeted(
    config: RunConfig, space: SearchSpace, device: Device, paths: RunPaths | None = None
) -> tuple[SearchSpace, list[Refusal]]:
    """The space without the choices that a device cannot execute, and these.

    Args:
        config: of the run.
        space: of its file.
        device: that is tried now, if its runtime is here.
        paths: of its folder if it is continued, which knows what was found when it was begun.

    Raises:
        CostError: nothing is left to choose from.
        SpaceError: the start is among what the device cannot execute.
    """
    if paths:
        kept = read_json(paths.left_out) if paths.left_out.exists() else {"refusals": []}
        refusals = [Refusal(**refusal) for refusal in kept["refusals"]]
        return without(space, [refusal.clause for refusal in refusals]), refusals
    if available(device):  # it is another machine, whose runtime nothing can be tried in here
        return space, []
    narrowed, refusals = runnable(device, space)
    if config.start.model and narrowed.largest().architecture != space.largest().architecture:
        raise SpaceError(
            f"start.model: device {device.name!r} cannot execute what {config.start.model} is made "
            f"of: {'; '.join(map(str, refusals))}"
        )
    return narrowed, refusals


def targeted_at_all(
    config: RunConfig,
    space: SearchSpace,
    devices: Sequence[Device],
    paths: RunPaths | None = None,
) -> tuple[SearchSpace, list[list[Refusal]]]:
    """The space without the choices that any of some devices cannot execute, and these of each.

    Args:
        config: of the run.
        space: of its file.
        devices: each of which is to run every candidate.
        paths: as for `targeted`.

    Raises:
        CostError: nothing is left to choose from.
        SpaceError: the start is among what one of them cannot execute.
    """
    every, lines = list[list[Refusal]](), list[str]()
    for device in devices:
        try:
            space, refusals = targeted(config, space, device, paths)
        except CostError as error:
            raise CostError("; ".join((str(error), *lines))) from error
        every.append(refusals)
        lines += [left_out(device, refusals).removeprefix("space: ")] if refusals else []
    return space, every


def record(paths: RunPaths, device: Device, refusals: list[Refusal]) -> None:
    """Keep what a device cannot execute in a run folder, if there is anything; of several, all."""
    if refusals:
        told, line = [r.to_dict() for r in refusals], left_out(device, refusals)
        if paths.left_out.exists():
            before = read_json(paths.left_out)
            told = before["refusals"] + told
            line = f"{before['line']}; {line.removeprefix('space: ')}"
        write_json(paths.left_out, {"line": line, "refusals": told})


def recorded(paths: RunPaths) -> str:
    """The line on what the space of a run goes without; empty where it has everything."""
    return read_json(paths.left_out)["line"] if paths.left_out.exists() else ""
