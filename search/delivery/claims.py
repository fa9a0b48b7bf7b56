"""Claims: the parts of a manifest, each about one model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, TypeVar

from ...spaces.errors import RunError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of right answers.

    Attributes:
        accuracy: of all images.
        accuracy_low: lower end of its 95% interval.
        accuracy_high: upper end.
        balanced_accuracy: mean over the classes; None where 0.2 did not measure it, like its ends.
        balanced_accuracy_low: lower end of its 95% interval.
        balanced_accuracy_high: upper end.
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    balanced_accuracy: float | None = field(default=None, kw_only=True)
    balanced_accuracy_low: float | None = field(default=None, kw_only=True)
    balanced_accuracy_high: float | None = field(default=None, kw_only=True)

    def interval(self, goal: str) -> tuple[float, float, float]:
        """Low end, share and high end of an accuracy by its name."""
        return getattr(self, f"{goal}_low"), getattr(self, goal), getattr(self, f"{goal}_high")


@dataclass(frozen=True, slots=True)
class Promised(Accuracy):
    """Promises of the search, at the speed that the machine had when it was calibrated.

    Attributes:
        latency_ms: measured on its graph with random weights, otherwise predicted.
        low_ms: lower end of its 90% interval.
        high_ms: upper end.
        peak_memory_mb: growth of a process that runs it.
        size_mb: of its file.
        macs: multiply-accumulates.
        params: parameters.
        predicted_ms: latency by the cost model.
        energy_mj: of one run; None where it is not predicted, like its interval.
        energy_low_mj: lower end of its 90% interval.
        energy_high_mj: upper end.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    peak_memory_mb: float
    size_mb: float
    macs: float
    params: float
    predicted_ms: float
    energy_mj: float | None = None
    energy_low_mj: float | None = None
    energy_high_mj: float | None = None

    @property
    def counts(self) -> dict[str, float]:
        """What is known without measuring, by name."""
        return {"macs": self.macs, "params": self.params}

    @property
    def was_measured(self) -> bool:
        """Whether the latency was measured, not predicted.

        Predictions of the same candidate, alone and among others, may differ in their last bit.
        """
        return not math.isclose(self.latency_ms, self.predicted_ms, rel_tol=1e-9)


@dataclass(frozen=True, slots=True)
class Metrics(Accuracy):
    """Measurements of a model on its device; accuracy is on the validation split.

    Attributes:
        latency_ms: median, as read from the clock; with exits the mean over the validation images
            of the medians of the parts that they run through.
        latency_p10_ms: tenth percentile.
        latency_p90_ms: ninetieth percentile.
        drift: of the machine's speed while it was measured.
        speed: of the machine then, where 1 is that of the calibration.
        peak_memory_mb: growth of a process that runs it, or all of its parts.
        size_mb: of its file, or of these.
        energy_mj: of one run above idle; None where there is no counter.
    """

    latency_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    drift: float
    speed: float
    peak_memory_mb: float
    size_mb: float
    energy_mj: float | None = None

    @property
    def calibrated_ms(self) -> float:
        """Latency at the speed of the calibration, to which promises and limits refer."""
        return self.latency_ms * self.speed

    def at_calibrated_speed(self) -> dict[str, float]:
        """Values by name of the metric, latencies at the speed of the calibration."""
        names = ("latency_ms", "latency_p10_ms", "latency_p90_ms")
        return plain(self) | {name: getattr(self, name) * self.speed for name in names}

    def row(self) -> dict[str, float]:
        """The same, and beside them the latency as it was read from the clock."""
        return self.at_calibrated_speed() | {"latency_read_ms": self.latency_ms}


@dataclass(frozen=True, slots=True)
class Exits:
    """How images leave a model with exits.

    Attributes:
        after: blocks of the whole network that run before each exit.
        above: confidence of each exit from which on it answers.
        expected: share of the validation images that each part answers, by torch.
        whole_accuracy: share of them that is right where nobody leaves.
        drop: by how much that may fall.
        curve: what other thresholds come to on them, the cheapest first: accuracy, mean time
            relative to that of an image that runs through all parts, and shares.
        shares: of the validation images that each part of the artifact answers; None before they
            are measured, like all that follows.
        part_ms: median latency of each part, as read from the clock.
        whole_ms: the same of `model.onnx`, the network without its exits.
        low_ms: lower end of the 95% interval of the mean latency for other images like these.
        high_ms: upper end.
        test_shares: of the test images that each part answers.
        test_ms: mean latency of the test images.
    """

    after: Sequence[int]
    above: Sequence[float]
    expected: Sequence[float]
    whole_accuracy: float
    drop: float
    curve: Sequence[Mapping[str, Any]]
    shares: Sequence[float] | None = None
    part_ms: Sequence[float] | None = None
    whole_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    test_shares: Sequence[float] | None = None
    test_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Trial(Accuracy):
    """A finalist trained in one way, with its numbers rounded as the artifact rounds them.

    Attributes:
        seconds: of its training.
        delivered: whether it was chosen.
    """

    seconds: float
    delivered: bool = False


@dataclass(frozen=True, slots=True)
class Form(Accuracy):
    """A finalist with its distillation token fused or dropped, as it was trained.

    Attributes:
        delivered: whether it was chosen.
    """

    delivered: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One promise and whether it was kept.

    Attributes:
        name: of the check.
        holds: whether it was kept.
        found: the measured value.
        wanted: the values that are allowed.
    """

    name: str
    holds: bool
    found: float | str
    wanted: str

    def __str__(self) -> str:
        """The value and what was wanted, in words."""
        value = f"{self.found:.4g}" if isinstance(self.found, float) else self.found
        return f"{self.name} is {value}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A model whose answers failed a check.

    Attributes:
        key: of its candidate.
        compensated: whether norms and biases were corrected for rounding.
        checks: of its answers.
    """

    key: str
    compensated: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a stage of delivery did to the accuracy that the run goes by, on the validation split.

    Attributes:
        what: the stage, in words.
        before: of the network or artifact that it began with.
        after: of the one that it gave.
        undone: whether that was less right than it may be, and is not built upon.
    """

    what: str
    before: float
    after: float
    undone: bool = False

    def __str__(self) -> str:
        """The stage, and accuracy before and after it."""
        return f"{self.what}: {self.after:.1%} after {self.before:.1%}"


@dataclass(frozen=True, slots=True)
class Story:
    """History of a finalist, from the search to the delivered model.

    Attributes:
        refused: models that failed, in the order of trying.
        taken_back: steps that were taken then, in words.
        effects: what each stage did, in the order of trying; empty in runs that did not note it.
    """

    refused: tuple[Refused, ...] = ()
    taken_back: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()

    @property
    def undone(self) -> list[Effect]:
        """Stages after which the artifact was less right than it may be."""
        return [effect for effect in self.effects if effect.undone]


def plain(part: Any) -> dict[str, Any]:
    """A part as plain data, without values that are None."""
    return {name: value for name, value in asdict(part).items() if value is not None}


def read_part(kind: type[T], data: Mapping[str, Any]) -> T:
    """Read a part from plain data; names without a field are ignored.

    Raises:
        RunError: one is missing.
    """
    known: Any = fields(kind)  # pyright: ignore[reportArgumentType]
    for each in known:
        needed = each.default is MISSING and each.default_factory is MISSING
        if needed and each.name not in data:
            raise RunError(f"lacks {each.name!r}")
    return kind(**{each.name: data[each.name] for each in known if each.name in data})


def read_checks(data: Any) -> tuple[Check, ...]:
    """Read checks from plain data.

    Raises:
        RunError: one lacks a name.
    """
    return tuple(read_part(Check, check) for check in data)


def read_story(data: Mapping[str, Any]) -> Story:
    """Read a story from plain data.

    Raises:
        RunError: a check in it lacks a name.
    """
    refused = (r | {"checks": read_checks(r["checks"])} for r in data.get("refused", ()))
    taken_back = tuple(data.get("taken_back", ()))
    effects = tuple(read_part(Effect, effect) for effect in data.get("effects", ()))
    return Story(tuple(read_part(Refused, r) for r in refused), taken_back, effects)
