"""Crossing: what is best for one device of a run, on the others, and one model for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from statistics import median
from typing import Any

from ..config import RunConfig, load_config
from ..delivery.manifest import Manifest, manifests
from ..delivery.pick import NEAR, pick_model
from ..pareto.by_device import at
from ..pareto.objectives import Objective, pareto_front
from ..scoring.evaluation import Evaluation
from ..scoring.evaluation_log import read_evaluations
from ..store.run_folder import RunPaths
from .refreshing import refresh_of


@dataclass(frozen=True)
class Crossed:
    """A delivered model on one device.

    Attributes:
        key: of what was delivered there, which may have given compression back.
        accuracy: on the validation split, of the kind that the run maximizes.
        latency_ms: measured there, or predicted as `state` says, at the calibrated speed.
        state: whether it is verified on that device, in words.
        on_front: whether no other model is faster there and as accurate.
        chosen: whether one would take it for this device alone: the fastest within a point of the
            best accuracy.
    """

    key: str
    accuracy: float
    latency_ms: float
    state: str
    on_front: bool
    chosen: bool


@dataclass(frozen=True)
class Excess:
    """What a device pays for a model that was chosen for all of them.

    Attributes:
        slower: latency beside that of the model chosen for it alone, less 1; below 0 it is faster.
        accuracy: difference of the accuracies.
    """

    slower: float
    accuracy: float


@dataclass(frozen=True)
class FrontCrossing:
    """The front of all scored candidates for one device, as another device runs them.

    Attributes:
        chosen_for: device that the front is of.
        on: the other device.
        candidates: on the front.
        on_both: those that are on the other device's front as well.
        median_slower: latency beside the fastest candidate for the other device that is as
            accurate, less 1, of the middle one.
        most_slower: likewise of the worst.
    """

    chosen_for: str
    on: str
    candidates: int
    on_both: int
    median_slower: float
    most_slower: float


@dataclass(frozen=True)
class Crossing:
    """The models and fronts of a run for several devices, each on all of them.

    Attributes:
        models: key of a finalist -> device -> the model there, the fastest on the first device
            first.
        one_for_all: key of the model to take if all devices are to run the same; empty where none
            was delivered for all.
        excess: device -> what that costs there.
        fronts: by the cost models, of every two devices.
    """

    models: Mapping[str, Mapping[str, Crossed]]
    one_for_all: str
    excess: Mapping[str, Excess]
    fronts: Sequence[FrontCrossing]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def cross(paths: RunPaths) -> Crossing:
    """Cross the devices of a run.

    Args:
        paths: of its folder.

    Raises:
        RunError: nothing was delivered for one of them, or a file is damaged.
    """
    config = load_config(paths.config)
    delivered = {name: _known(paths, name) for name in config.by_device}
    became = {
        name: {finalist: m for m in found for finalist in m.finalists}
        for name, found in delivered.items()
    }
    seen = {name: _crossed(found) for name, found in delivered.items() if found}
    finalists = dict.fromkeys(key for found in became.values() for key in found)
    models = {
        key: {name: seen[name][found[key].key] for name, found in became.items() if key in found}
        for key in finalists
    }
    one = _one_for_all(models, seen)
    return Crossing(
        models=models,
        one_for_all=one,
        excess={n: _excess(model, seen[n].values()) for n, model in models.get(one, {}).items()},
        fronts=list(_fronts(paths, config)),
    )


def _known(paths: RunPaths, device: str) -> list[Manifest]:
    """Models with figures of a device, the fastest first."""
    found = manifests(paths.of(device).pareto)
    return [m for m in found if m.metrics or m.is_predicted]


def _crossed(delivered: Sequence[Manifest]) -> dict[str, Crossed]:
    """The models of one device by key."""
    chosen, best = pick_model(delivered, "good"), -1.0
    found: dict[str, Crossed] = {}
    for m in delivered:  # the fastest first
        accuracy = m.figures.interval(m.goal)[1]
        found[m.key] = Crossed(
            key=m.key,
            accuracy=accuracy,
            latency_ms=m.figures.calibrated_ms,
            state=m.state,
            on_front=accuracy > best,
            chosen=m.key == chosen.key,
        )
        best = max(best, accuracy)
    return found


def _one_for_all(
    models: Mapping[str, Mapping[str, Crossed]], seen: Mapping[str, Mapping[str, Crossed]]
) -> str:
    """The model that all devices lose the least by.

    Among those within a point of the best accuracy on every device, the one of which the largest
    loss of speed is the least; without such, the one that loses the least accuracy anywhere.
    """
    best = {name: max(m.accuracy for m in found.values()) for name, found in seen.items()}
    losses: dict[str, tuple[float, float]] = {}
    for key, by_device in models.items():
        if len(by_device) == len(seen):
            lost = max(best[name] - m.accuracy for name, m in by_device.items())
            slower = max(_excess(m, seen[name].values()).slower for name, m in by_device.items())
            losses[key] = (0.0 if lost <= NEAR else lost), slower
    return min(losses, key=lambda key: losses[key], default="")


def _excess(model: Crossed, others: Iterable[Crossed]) -> Excess:
    """What a model costs on a device beside the one that is chosen for that alone."""
    alone = next(m for m in others if m.chosen)
    return Excess(model.latency_ms / alone.latency_ms - 1, model.accuracy - alone.accuracy)


def _fronts(paths: RunPaths, config: RunConfig) -> Iterator[FrontCrossing]:
    """Fronts of all scored candidates on devices that they are not for."""
    scored, _ = read_evaluations(paths.evaluations)
    complete = [e for e in scored if e.status == "complete"]
    complete = refresh_of(paths, complete)(complete)
    goal = config.search.goal
    fronts = {name: _front(complete, config, name) for name in config.by_device}
    for here, there in permutations(fronts, 2):
        if not (fronts[here] and fronts[there]):
            continue
        name, keys = at("latency_ms", there), {e.key for e in fronts[there]}
        slower = [
            e.metrics[name] / min([e.metrics[name], *_as_good(e, fronts[there], goal, name)]) - 1
            for e in fronts[here]
        ]
        both = sum(e.key in keys for e in fronts[here])
        yield FrontCrossing(here, there, len(slower), both, median(slower), max(slower))


def _front(scored: Sequence[Evaluation], config: RunConfig, device: str) -> list[Evaluation]:
    """Candidates within a device's limits that no other is faster than there and as accurate."""
    search, by_key = config.search.on(device), {e.key: e for e in scored}
    traded = "latency_ms", search.goal
    limits = [Objective(o.name, o.limit, traded=False) for o in search.resolve()]
    plane = [*limits, *(Objective(name) for name in traded)]
    return [by_key[e.key] for e in pareto_front([e.on(device) for e in scored], plane)]


def _as_good(e: Evaluation, front: Sequence[Evaluation], goal: str, name: str) -> list[float]:
    """Values of a metric of those on a front that are as accurate as another candidate."""
    return [other.metrics[name] for other in front if other.metrics[goal] >= e.metrics[goal]]
