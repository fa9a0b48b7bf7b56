"""Results: a run folder in Python, for notebooks and other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cost_models.runtimes import find_runtime
from ...spaces import Candidate, SearchSpace
from ...spaces.errors import RunError, UnknownNameError
from ..config import RunConfig, load_config
from ..delivery.artifact import load_network, read_candidate
from ..delivery.claims import plain
from ..delivery.formats import format_of
from ..delivery.manifest import Manifest, manifests
from ..loop.nearest_feasible import excess
from ..pareto.objectives import METRICS, Objective, pareto_front
from ..scoring.evaluation import Evaluation
from ..scoring.evaluation_log import read_evaluations
from ..store.atomic_files import read_json
from ..store.run_folder import RunFolder
from .crossing import cross
from .refreshing import refresh_of

if TYPE_CHECKING:
    from ...spaces.networks import Network


@dataclass(frozen=True)
class Delivered:
    """A delivered model.

    Attributes:
        folder: that holds its files.
        manifest: its promises and measurements.
    """

    folder: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """Its candidate's key."""
        return self.manifest.key

    @property
    def verified(self) -> bool:
        """Whether every check held on the device."""
        return self.manifest.verified

    @property
    def state(self) -> str:
        """Whether it is verified, in words: "predicted for NAME, not verified on it" elsewhere."""
        return self.manifest.state

    @property
    def metrics(self) -> Mapping[str, float]:
        """Accuracies on the validation split, latency, memory and size as measured.

        Where `state` says predicted, they are the promises of the search for its device, with the
        accuracy that it has here. Latencies are at the speed that the machine had when it was
        calibrated, as everywhere.
        `latency_read_ms` is what the clock said when `speed`, where 1 is the calibration's, was
        that of the machine.
        """
        known = self.manifest.metrics or self.manifest.is_predicted
        return self.manifest.figures.row() if known else {}

    @property
    def candidate(self) -> Candidate:
        """Candidate of the model."""
        return read_candidate(self.folder)

    @property
    def artifact(self) -> Path:
        """File that was measured, which the device's runtime runs."""
        return self.folder / format_of(self.manifest.device).file

    @property
    def onnx(self) -> Path:
        """ONNX file of the model, if its device runs ONNX.

        Raises:
            RunError: it has another format.
        """
        if find_runtime(self.manifest.device.runtime).format != "onnx":
            raise RunError(
                f"{self.artifact}: no ONNX file; `vitpareto export --runtime onnxruntime` makes one"
            )
        return self.artifact

    def model(self) -> Network:
        """A plain torch module with the trained weights, in eval mode.

        Weights are float32; only those in the artifact are rounded.

        Raises:
            RunError: a file is missing or damaged.
        """
        return load_network(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Flat row: measured figures by name, test accuracies, and path of the artifact.

        `ladder` is the name of a model that `vitpareto ladder` added.
        """
        known = plain(self.manifest.test) if self.manifest.test else {}
        test = {f"test_{name}": value for name, value in known.items()}
        ladder = {"ladder": self.manifest.ladder} if self.manifest.ladder else {}
        told = {"key": self.key, "verified": self.verified, "state": self.state}
        return {**told, **self.metrics, **test, **ladder} | {"artifact": str(self.artifact)}


@dataclass(frozen=True)
class Results:
    """Results of a run; from `load_run`.

    Attributes:
        folder: of the run.
    """

    folder: RunFolder

    @cached_property
    def config(self) -> RunConfig:
        """Configuration with every key."""
        return load_config(self.folder.config).on(self.folder.device)

    @property
    def devices(self) -> list[str]:
        """Names of the devices of a run for several; empty of a run for one."""
        return [name for name in self.config.by_device if name]

    def on(self, device: str) -> Results:
        """The results as if the run were for one of its devices alone.

        Raises:
            RunError: the run is for one device, and these are its results.
            UnknownNameError: it is for several, and not for this one.
        """
        if not self.devices:
            raise RunError(f"{self.folder.path}: is for one device: its results are these")
        if device not in self.devices:
            raise UnknownNameError("device", device, self.devices)
        return Results(self.folder.of(device))

    def crossing(self) -> dict[str, Any]:
        """What is best for one of several devices on the others, as plain data.

        `models`: key of a finalist -> device -> the model there. `one_for_all` is the one to take
        if all devices are to run the same, and `excess` what each pays for that. `fronts` are
        those of all scored candidates by the cost models, each on the other devices.

        Raises:
            RunError: nothing was delivered for one of the devices.
        """
        return cross(self.folder).to_dict()

    @cached_property
    def space(self) -> SearchSpace:
        """The space that was searched."""
        return SearchSpace.from_yaml(self.folder.space)

    @cached_property
    def models(self) -> list[Delivered]:
        """The delivered models, the fastest first; of several devices one after the other.

        Raises:
            RunError: there are none, or one is damaged.
        """
        return [model for models in self._by_device.values() for model in models]

    @cached_property
    def _by_device(self) -> dict[str, list[Delivered]]:
        places = {
            name: self.folder.of(name or self.folder.device) for name in self.config.by_device
        }
        return {
            name: [Delivered(place.pareto / m.key, m) for m in manifests(place.pareto)]
            for name, place in places.items()
        }

    def results(self) -> list[dict[str, Any]]:
        """The delivered models as rows, for `pandas.DataFrame`, of several devices with `device`.

        A model is there for each device for which it was delivered.
        """
        return [
            model.to_dict() | ({"device": name} if name else {})
            for name, models in self._by_device.items()
            for model in models
        ]

    def evaluations(self) -> list[dict[str, Any]]:
        """All scored candidates as rows in the order of scoring, for `pandas.DataFrame`.

        A row has key, status, metrics, whether the candidate is on the front, and its choices. Of
        several devices each cost has its own metric, such as latency_ms@cpu-1t.
        Forecasts of accuracy are moved by what became of the delivered models.
        """
        everything, _ = read_evaluations(self.folder.evaluations)
        scored = [e.on(self.folder.device) for e in everything]
        complete = [e for e in scored if e.status == "complete"]
        now = {e.key: e for e in refresh_of(self.folder, complete)(complete)}
        front = {e.key for e in pareto_front([*now.values()], self.config.search.resolve())}
        return [self._row(now.get(e.key, e)) | {"front": e.key in front} for e in scored]

    def references(self) -> list[dict[str, Any]]:
        """What the models are compared with, as rows: the start as it is, and in int8.

        Without a start it is the largest network of the space. Empty until it was measured. Of
        several devices each has its own; see `on`.
        """
        kept = self.folder.reference
        found = read_json(kept) if kept.exists() else []
        return found if isinstance(found, list) else [found]  # 0.2 measured one

    def best(self, **limits: float) -> Delivered:
        """The most accurate delivered model within limits, the verified ones before all others.

        Accuracy is the one that the run maximizes, which may be the balanced one.

        A latency is compared with its limit at the speed of the calibration, as in the search, so
        that no model is ruled out because the machine was busy when it was measured.
        `metrics["speed"]` is the speed of the machine.

        Args:
            limits: metric -> worst value that is acceptable, such as `latency_ms=2.0`.

        Raises:
            UnknownNameError: no such metric.
            ConfigError: a limit that is not above 0.
            RunError: no delivered model keeps the limits, or the run is for several devices, of
                which `on` names one.
        """
        if self.devices:
            raise RunError(
                f"{self.folder.path}: is for {', '.join(self.devices)}: the best on one of them is "
                f'that of .on("{self.devices[0]}")'
            )
        for name in limits:
            if name not in METRICS:
                raise UnknownNameError("metric", name, METRICS)
        wanted = [Objective(name, limit) for name, limit in limits.items()]
        known = [model for model in self.models if model.metrics]
        within = [m for m in known if limits.keys() <= _values(m).keys()]
        within = [m for m in within if excess(_values(m), wanted) == 0]
        if not within:
            raise RunError(
                f"{self.folder.path}: none of {len(self.models)} delivered models keeps "
                + ", ".join(f"{name} {limit:g}" for name, limit in limits.items())
            )
        return max(within, key=lambda m: (m.verified, m.metrics[m.manifest.goal]))

    def _row(self, e: Evaluation) -> dict[str, Any]:
        choices = self.space.assignment(e.candidate)
        return {"key": e.key, "status": e.status, "seconds": e.seconds} | dict(e.metrics) | choices


def _values(model: Delivered) -> dict[str, float]:
    """Values to compare with limits: measured, at the calibrated speed, or counted."""
    return model.manifest.promised.counts | model.manifest.figures.at_calibrated_speed()


def load_run(path: str | Path) -> Results:
    """Load the results of a run, while it goes on or when it has ended.

    Args:
        path: its folder.

    Raises:
        RunError: it is no run folder.
    """
    return Results(RunFolder(Path(path), lock=False))
