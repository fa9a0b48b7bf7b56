"""Gate: a stage that makes an artifact less right than it may is undone, to the last byte."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...cost_models.standalone.seal import hashes_of
from ...spaces import Candidate
from ...spaces.errors import RunError
from ...spaces.networks import Network
from .changed_files import changed_file
from .claims import Accuracy, Check

ROUNDING, CORRECTION, STEP_BACK = "rounding", "correction", "step_back"
# Stages, and by how much accuracy may fall in each: of the artifact against what came before it.
# Rounding is held to the interval of what training reached, where nothing else is said.
DROPS: Mapping[str, float] = {CORRECTION: 0.0, STEP_BACK: 0.01}
NOTHING = -1.0  # accuracy of what answers nothing


@dataclass(frozen=True)
class Held:
    """An artifact as it came out of a stage, and all that it was made of.

    Attributes:
        folder: a copy of it.
        candidate: that it is of.
        compensate: whether it is corrected for rounding.
        weights: of the network, by name.
        trained: what these reached in torch.
        files: name -> SHA-256.
        share: its own accuracy.
        steps: number of steps back until then.
    """

    folder: Path
    candidate: Candidate
    compensate: bool
    weights: Mapping[str, Tensor]
    trained: Accuracy
    files: Mapping[str, str]
    share: float
    steps: int

    def restore(self, folder: Path, network: Network) -> None:
        """Put the artifact back, and the weights.

        Raises:
            RunError: the folder cannot be written, or its copy was changed.
        """
        network.load_state_dict(dict(self.weights))
        try:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.folder, folder)
        except OSError as error:
            raise RunError(f"{folder}: cannot be restored: {error}") from error
        if name := changed_file(folder, self.files):
            raise RunError(f"{folder}: cannot be restored: {name} was changed")


def hold(
    folder: Path,
    network: Network,
    candidate: Candidate,
    compensate: bool,
    trained: Accuracy,
    files: Sequence[str],
    share: float,
    steps: int,
) -> Held:
    """Keep a copy of an artifact, in place of the one before; see `Held`.

    Raises:
        RunError: the copy cannot be written.
    """
    kept = copy_of(folder)
    try:
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
    except OSError as error:
        raise RunError(f"{kept}: cannot be written: {error}") from error
    weights = weights_of(network)
    return Held(kept, candidate, compensate, weights, trained, hashes_of(kept, files), share, steps)


def copy_of(folder: Path) -> Path:
    """Where the copy of an artifact is, while it is made."""
    return folder.with_name(f"{folder.name}.before")


def weights_of(network: Network) -> dict[str, Tensor]:
    """A copy of all weights, by name."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def share_of(checks: Sequence[Check]) -> float:
    """Accuracy of an artifact by the checks of its answers, of which it is the last."""
    last = checks[-1]
    told = isinstance(last.found, float) and last.name.endswith("of the artifact")
    return float(last.found) if told else NOTHING
