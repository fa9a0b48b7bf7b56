"""Command `vitpareto sweep`: one model under other sizes, batches, threads and options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...spaces.errors import ConfigError
from .folders import open_if_free
from .output import echo, json_option, print_json

if TYPE_CHECKING:
    from ...cost_models import Device
    from ...cost_models.sweep.sweep import Sweep
    from ..delivery.subject import Subject

RECORD = ".sweep.json"  # beside a device file: what its settings were worth when it was written


@click.command()
@click.argument("source", metavar="MODEL|CANDIDATE|RUN")
@click.option(
    "--device",
    metavar="DEVICE",
    help="A preset or a file; that of the run or of the delivered model, or cpu-1t, by default.",
)
@click.option(
    "--over",
    metavar="NAME,...",
    help="threads, batch, size, or an option of the runtime: arena, memory_pattern, optimization "
    "of ONNX Runtime, layout of torch. All that the device has by default.",
)
@click.option(
    "--limit-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Latency that a batch may take; the best one within it is named.",
)
@click.option(
    "--budget-s",
    type=click.FloatRange(min=5),
    default=45.0,
    show_default=True,
    help="Wall time. Larger batches are tried with more of it.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Device file to write, with the settings that were faster.",
)
@click.option("--pick", default="good", show_default=True, help="Which model of a RUN.")
@json_option
def sweep(
    source: str,
    device: str | None,
    over: str | None,
    limit_ms: float | None,
    budget_s: float,
    save: Path | None,
    pick: str,
    as_json: bool,
) -> None:
    """Time a model in other sizes and batches and with other settings, all in one run.

    One thing is changed at a time and all is timed in turn, so that only ratios of one sweep say
    anything. A setting counts as faster where the spreads of the rounds do not touch; those that
    are faster are put together, timed once more, and written to a device file by --save, which
    runs and what they deliver then use. A later sweep with that file says which of its settings
    have become slower than the other values.

    \b
      vitpareto sweep deit_tiny_patch16_224 --over batch --limit-ms 100
      vitpareto sweep runs/digits --over threads,arena,optimization --save mine.yaml
    """  # noqa: D301
    from ...cost_models.sweep.taking import take_sweep
    from ..console import share_bar
    from ..delivery.subject import random_file
    from .sweep_text import sweep_lines

    if save and save.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--save: need a file that ends in .yaml, got {save}")
    subject = _subject(source, device, pick)
    names = [name.strip() for name in over.split(",")] if over else []
    earlier = _earlier(device, subject.candidate.key)
    with share_bar("sweep") as report:
        found = take_sweep(subject.device, subject.candidate, random_file, names, budget_s, report)
    slower = found.slower_than(earlier)
    if save:
        _save(found, save, subject.candidate.key)
    if as_json:
        about = {"model": subject.name, "key": subject.candidate.key}
        print_json(about | found.to_dict(limit_ms) | {"slower": slower})
    else:
        echo(sweep_lines(subject.name, found, limit_ms, slower, save))


def _subject(source: str, named: str | None, pick: str) -> Subject:
    from ...cost_models import Device
    from ..config import load_config
    from ..delivery.manifest import manifests
    from ..delivery.pick import pick_model
    from ..delivery.subject import check_here, delivered, subject_of
    from ..run.devices import of_device

    path = Path(source).expanduser()
    if not (path / "config.yaml").is_file():
        return subject_of(source, Device.load(named) if named else None)
    with open_if_free(path) as folder:
        device = None
        if "" in load_config(folder.config).by_device:
            device = Device.load(named) if named else None
        else:  # of a run for several devices, the models for the named one
            folder = of_device(folder, named)
        chosen = pick_model(manifests(folder.pareto), pick)
        if device is None:
            check_here(chosen)
        return delivered(folder.pareto / chosen.key, device)


def _earlier(named: str | None, key: str) -> dict[str, Any]:
    """What settings of a device file were worth for a model when the file was written."""
    record = Path(named or "").with_suffix(RECORD) if named else None
    if record is None or not record.is_file():
        return {}
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
        return dict(kept["settings"]) if kept["key"] == key else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{record}: not what `vitpareto sweep --save` wrote: {error}") from None


def _save(found: Sweep, path: Path, key: str) -> None:
    import yaml

    from ..store.atomic_files import write_atomic, write_json

    write_atomic(path, yaml.safe_dump(_file(found.tuned), sort_keys=False))
    write_json(path.with_suffix(RECORD), {"key": key, "settings": found.settings(found.tuned)})


def _file(device: Device) -> dict[str, Any]:
    """What a device file says: no name, which is the file's, and nothing that goes by itself."""
    plain = device.to_dict()
    usual = {"batch": 1, "affinity": [], "compiled": False}
    return {k: v for k, v in plain.items() if k != "name" and usual.get(k) != v}
