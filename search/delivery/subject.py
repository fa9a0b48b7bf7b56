"""Subject: the one model that a command looks into, whatever it is given by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...cost_models import Device
from ...spaces import Candidate
from ...spaces.convert import from_model
from ...spaces.errors import ConfigError, RunError
from ..start.models import PREFIXES, open_model
from ..store.candidate_files import SUFFIXES, read_candidates
from .artifact import CANDIDATE, read_candidate, read_model
from .export import random_build
from .formats import format_of
from .manifest import MANIFEST, Manifest, read_manifest
from .verify import is_here

DEFAULT = "cpu-1t"  # device of what was made for none


@dataclass(frozen=True)
class Subject:
    """One model as a device runs it.

    Attributes:
        name: for people.
        candidate: whose network it is.
        device: that runs it.
        encode: gives its file, as the runtime of the device reads it.
    """

    name: str
    candidate: Candidate
    device: Device
    encode: Callable[[], bytes]


def subject_of(source: str, device: Device | None = None) -> Subject:
    """The model that is named: a delivered one as it is, any other with random weights.

    Args:
        source: folder or file of a delivered model; JSON or YAML with one candidate; or what
            `start.models.open_model` takes.
        device: that runs it; its own by default, or `DEFAULT`.

    Raises:
        ConfigError: a file with no candidate, or with several.
        RunError: there is no such model, or it is for another machine or another runtime.
        SpaceError: a network that the vocabulary does not have.
    """
    path = Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    if path.exists() and path.suffix not in SUFFIXES and (folder / CANDIDATE).is_file():
        return delivered(folder, device)
    device = device or Device.load(DEFAULT)
    if path.is_file() and path.suffix in SUFFIXES:
        candidate = _one_of(path)
        return _random(candidate.key, candidate, device)
    named = source.startswith(PREFIXES)
    is_file_name = len(path.parts) > 1 or path.suffix in (*SUFFIXES, ".onnx")
    if path.is_file() or (is_file_name and not named and not path.exists()):
        raise RunError(
            f"{source}: {'no model' if path.exists() else 'no such file or folder'}: need a run "
            "folder, a delivered model, a candidate in JSON or YAML, or a name such as "
            "deit_tiny_patch16_224"
        )
    network = from_model(open_model(source, random_weights=True))
    return _random(source, Candidate.uncompressed(network.architecture), device)


def delivered(folder: Path, device: Device | None = None, name: str = "") -> Subject:
    """A delivered or exported model, as its file is; one with exits as it is without them.

    Args:
        folder: of its files.
        device: that runs it; the one that it was delivered for by default.
        name: for people; its key by default.

    Raises:
        RunError: a file is missing or damaged, or the device is another machine or reads others.
    """
    stored = read_candidate(folder)
    candidate, device = stored.without_exits(), device or _own_device(folder)
    form = format_of(device)
    if not (folder / form.file).is_file():
        raise RunError(
            f"{folder}: holds no {form.file}, which is what {device.runtime} reads: export the "
            f"model for it with --runtime {device.runtime}"
        )
    return Subject(
        name or stored.key, candidate, device, lambda: read_model(folder / form.file, form)
    )


def check_here(manifest: Manifest) -> None:
    """Check that a model is for this machine.

    Raises:
        RunError: it is for another one.
    """
    if not is_here(manifest):
        raise RunError(
            f"{manifest.key}: is for {manifest.machine}, which is not this machine as it is now: "
            "--device names one that is here"
        )


def _own_device(folder: Path) -> Device:
    if not (folder / MANIFEST).is_file():
        return Device.load(DEFAULT)
    manifest = read_manifest(folder)
    check_here(manifest)
    return manifest.device


def _one_of(path: Path) -> Candidate:
    candidates = read_candidates(path)
    if len(candidates) > 1:
        raise ConfigError(f"{path}: holds {len(candidates)} candidates, and one can be looked into")
    return candidates[0]


def random_file(device: Device, candidate: Candidate) -> bytes:
    """A network with random weights, as the runtime of a device reads it.

    Raises:
        CostError: a precision that the device cannot run.
    """
    return format_of(device).encode(random_build(device, candidate), device, None)


def _random(name: str, candidate: Candidate, device: Device) -> Subject:
    whole = candidate.without_exits()
    return Subject(name, whole, device, lambda: random_file(device, whole))
