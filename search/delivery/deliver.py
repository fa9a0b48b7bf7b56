"""Deliver: a trained finalist becomes an artifact whose answers hold, stepping back if need be."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...cost_models import Device
from ...spaces import Candidate
from ...spaces.errors import CostError
from ...spaces.networks import Network
from ..data.dataset import Data, Split
from ..pareto.objectives import Objective, violations
from ..scoring.evaluation import Evaluation
from ..scoring.predicted_costs import CostPredictor
from ..store.atomic_files import sync_folder
from ..training.accuracy import accuracy
from ..training.forward import predict
from .artifact import Artifact
from .build import Build
from .checks import accuracy_floor
from .claims import Accuracy, Check, Promised, Refused, Story, read_part
from .decompression import Step, ranked, steps_back
from .export import build_for, chosen_recipes, export_trained
from .manifest import (
    MANIFEST,
    Manifest,
    hashes,
    now,
    read_manifest,
    versions,
    write_manifest,
)
from .preprocessing import Preprocessing

RANKING = 512  # search images on which steps back are compared
COMPENSATED = "norms rescaled and biases corrected, nothing given back"
PROMISED = ("accuracy", "accuracy_low", "accuracy_high")  # by the search, whatever is taken back

log = logging.getLogger("vitpareto")


@dataclass(frozen=True)
class Terms:
    """What every artifact of a run is made and judged with.

    Attributes:
        data: for calibration, ranking and judging.
        device: where the models will run.
        costs: of candidates on it.
        objectives: with the limits that a delivered model must keep.
        calibration_images: train images from which activation ranges are taken.
        seeds: of everything random that the artifact depends on, by name.
        retrain: (candidate, network) -> the network trained a little more, after a step back.
    """

    data: Data
    device: Device
    costs: CostPredictor
    objectives: Sequence[Objective]
    calibration_images: int
    seeds: Mapping[str, int]
    retrain: Callable[[Candidate, Network], Network]

    def build(self, candidate: Candidate, network: Network, compensate: bool = False) -> Build:
        """A candidate made ready for the device.

        Raises:
            CostError: a precision that the device cannot run.
            RunError: there are too few calibration images.
        """
        recipes, count = self.costs.model.recipes, self.calibration_images
        return build_for(self.device, candidate, network, recipes, self.data, count, compensate)

    def allows(self, candidate: Candidate) -> bool:
        """Whether the device runs a candidate, and its predicted costs keep the limits."""
        try:
            costs = self.costs(candidate)
        except CostError:
            return False
        return all(excess <= 0 for excess in violations(costs, self.objectives).values())


def deliver(pareto: Path, evaluation: Evaluation, network: Network, terms: Terms) -> Path:
    """Make the artifact of a finalist, or of what is left of it when its answers hold.

    Where they do not, norms and biases first make up for what rounding shifts, which costs
    nothing. Then part of the compression is taken back, step by step, each followed by a little
    training, after which there is nothing to make up for. Weights that were trained at 2 bits are
    of little use at 8: on digits such a model stood at 78% with everything taken back, and at 95%
    after 8 steps with four passes each.

    The folder gets its name when all its files are written, so that a kill leaves none behind
    that looks finished. Its manifest lacks what is measured on the device: see
    `verify.verify_new`.

    Args:
        pareto: where all artifacts are.
        evaluation: of the finalist by the search, a promise of accuracy; what training reached
            in torch is another.
        network: of the finalist, trained; changed in place by steps back.
        terms: of the run.

    Returns:
        The folder of the artifact.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written, or there are too few calibration images.
    """
    unfinished, split = pareto / f".{evaluation.key}", terms.data.split("validation")
    candidate, refused, taken = evaluation.candidate, list[Refused](), list[Step]()
    ahead: list[Step] = []
    compensate = tried = False
    while True:
        shutil.rmtree(unfinished, ignore_errors=True)
        trained = Accuracy(**accuracy(predict(candidate, network, split), split.labels))
        promised = evaluation.metrics["accuracy_low"]
        low = accuracy_floor(promised, trained.accuracy_low, len(split.labels))
        build = terms.build(candidate, network, compensate)
        checks, files = attempt(unfinished, build, low, terms)
        failed = [check for check in checks if not check.holds]
        if not failed:
            break
        log.info("%s does not hold: %s", candidate.key, failed[0])
        refused.append(Refused(candidate.key, compensate, tuple(checks)))
        if not tried and steps_back(candidate):
            log.info("%s again: %s", candidate.key, COMPENSATED)
            compensate = tried = True
            continue
        ahead = ahead or steps_for(candidate, network, terms)
        following = [step for step in ahead if terms.allows(step.apply(candidate))]
        if not following:
            break
        step = following[0]
        log.info("%s takes back %s", candidate.key, step)
        ahead = [other for other in following if other.place != step.place]
        candidate, compensate = step.apply(candidate), False
        network = terms.retrain(candidate, network)
        taken.append(step)
    manifest = Manifest(
        key=candidate.key,
        finalists={
            evaluation.key: Story(
                tuple(refused), (*map(str, taken), *([COMPENSATED] if compensate else []))
            )
        },
        made=now(),
        versions=versions(),
        seeds=terms.seeds,
        device=terms.device,
        identity=terms.device.identity(),
        recipes=chosen_recipes(candidate, terms.costs.model.recipes),
        calibration_images=terms.calibration_images,
        compensated=compensate,
        preprocessing=Preprocessing.of(terms.data),
        promised=_promised(evaluation, candidate, terms.costs),
        anchors=terms.costs.model.pace,
        trained=trained,
        limits={o.name: o.limit for o in terms.objectives if o.limit is not None},
        files=hashes(unfinished, files),
    )
    return _settle(unfinished, pareto / candidate.key, manifest)


def _promised(evaluation: Evaluation, candidate: Candidate, costs: CostPredictor) -> Promised:
    """What is promised of a candidate that a finalist became."""
    predicted = costs(candidate)
    # What the search chose was measured; what a step back made of it was not.
    known = evaluation.metrics if candidate == evaluation.candidate else predicted
    found = {name: evaluation.metrics[name] for name in PROMISED}
    found |= {name: known[name] for name in predicted}
    return read_part(Promised, found | {"predicted_ms": predicted["latency_ms"]})


def attempt(
    folder: Path, build: Build, low: float, terms: Terms
) -> tuple[list[Check], tuple[str, ...]]:
    """Write the artifact of a build and judge its answers: the checks, and its files.

    Args:
        folder: to write to.
        build: of the candidate.
        low: what its accuracy must reach.
        terms: of the run.
    """
    files = export_trained(folder, build, terms.device, Preprocessing.of(terms.data))
    artifact = Artifact.load(folder, terms.device)
    _, checks = artifact.judge(build, terms.data.split("validation"), low)
    return checks, files


def steps_for(candidate: Candidate, network: Network, terms: Terms) -> list[Step]:
    """The steps back from a candidate, ranked on the search split."""
    split = terms.data.split("search")
    few = Split(split.images[:RANKING], split.labels[:RANKING])

    def sureness(candidate: Candidate) -> float:
        """Mean probability of the right class: accuracy, but it moves before answers change."""
        logits = terms.build(candidate, network).logits(few)
        return logits.softmax(1).gather(1, few.labels[:, None]).mean().item()

    def latency(candidate: Candidate) -> float:
        return terms.costs(candidate)["latency_ms"]

    return ranked(candidate, sureness, latency, terms.allows)


def delivered(pareto: Path, key: str) -> bool:
    """Whether a finalist has its artifact, under its own key or that of what it became."""
    found = (read_manifest(path.parent) for path in pareto.glob(f"[!.]*/{MANIFEST}"))
    return any(key in manifest.finalists for manifest in found)


def _settle(unfinished: Path, folder: Path, manifest: Manifest) -> Path:
    """Give the folder its name; where another finalist became the same model, that one stays."""
    if folder.exists():
        shutil.rmtree(unfinished)
        there = read_manifest(folder)
        finalists = {**there.finalists, **manifest.finalists}
        write_manifest(folder, replace(there, finalists=finalists))
        return folder
    write_manifest(unfinished, manifest)
    unfinished.rename(folder)
    sync_folder(folder.parent)
    return folder
