"""Deliver: a trained finalist becomes an artifact whose answers hold, stepping back if need be."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...cost_models import Device
from ...spaces import Candidate
from ...spaces.errors import CostError
from ...spaces.networks import Network
from ..data.dataset import Data, Split
from ..pareto.objectives import Objective, violations
from ..scoring.evaluation import Evaluation
from ..scoring.predicted_costs import Costs
from ..store.atomic_files import sync_folder
from ..training.accuracy import accuracy
from ..training.forward import predict
from .artifact import MANIFEST, Artifact
from .checks import Check, accuracy_floor, check_answers
from .decompression import Step, ranked, steps_back
from .export import calibration, chosen_recipes, expected_logits, export_trained
from .formats import Preprocessing
from .manifest import hashes, now, read_manifest, versions, write_manifest

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
    costs: Costs
    objectives: Sequence[Objective]
    calibration_images: int
    seeds: Mapping[str, int]
    retrain: Callable[[Candidate, Network], Network]

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
    candidate, refused, taken = evaluation.candidate, list[dict[str, Any]](), list[Step]()
    ahead: list[Step] = []
    compensate = tried = False
    while True:
        shutil.rmtree(unfinished, ignore_errors=True)
        trained = accuracy(predict(candidate, network, split), split.labels)
        low = accuracy_floor(evaluation.metrics, trained, len(split.labels))
        checks, files = attempt(unfinished, candidate, network, low, terms, compensate)
        failed = [check for check in checks if not check.holds]
        if not failed:
            break
        log.info("%s does not hold: %s", candidate.key, failed[0])
        found = {"key": candidate.key, "compensated": compensate}
        refused.append(found | {"checks": [asdict(c) for c in checks]})
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
    story = [*map(str, taken), *([COMPENSATED] if compensate else [])]
    predicted = terms.costs(candidate)
    # What the search chose was measured; what a step back made of it was not.
    known = evaluation.metrics if candidate == evaluation.candidate else predicted
    promised = {name: evaluation.metrics[name] for name in PROMISED}
    promised |= {name: known[name] for name in predicted}
    promised["predicted_ms"] = predicted["latency_ms"]
    manifest: dict[str, Any] = {
        "key": candidate.key,
        "finalists": {evaluation.key: {"refused": refused, "taken_back": story}},
        "made": now(),
        "versions": versions(),
        "seeds": dict(terms.seeds),
        "device": terms.device.to_dict(),
        "identity": terms.device.identity(),
        "recipes": chosen_recipes(candidate, terms.costs.model.recipes),
        "calibration_images": terms.calibration_images,
        "compensated": compensate,
        "preprocessing": asdict(Preprocessing.of(terms.data)),
        "promised": promised,
        "anchors": terms.costs.model.pace.to_dict(),
        "trained": trained,
        "limits": {o.name: o.limit for o in terms.objectives if o.limit is not None},
        "files": hashes(unfinished, files),
    }
    return _settle(unfinished, pareto / candidate.key, manifest)


def attempt(
    folder: Path,
    candidate: Candidate,
    network: Network,
    low: float,
    terms: Terms,
    compensate: bool = False,
) -> tuple[list[Check], tuple[str, ...]]:
    """Write the artifact of a candidate and judge its answers: the checks, and its files.

    Args:
        folder: to write to.
        candidate: what it is.
        network: of the candidate.
        low: what its accuracy must reach.
        terms: of the run.
        compensate: as for `export.ready`.
    """
    recipes, count, data = terms.costs.model.recipes, terms.calibration_images, terms.data
    files = export_trained(
        folder, candidate, network, recipes, terms.device, data, count, compensate
    )
    split = data.split("validation")
    images = calibration(data, candidate, count, recipes)
    expected = expected_logits(candidate, network, split, recipes, images, compensate)
    artifact = Artifact.load(folder, terms.device)
    logits = artifact.logits(split)
    return check_answers(artifact.exact, logits, expected, split.labels, low), files


def steps_for(candidate: Candidate, network: Network, terms: Terms) -> list[Step]:
    """The steps back from a candidate, ranked on the search split."""
    split = terms.data.split("search")
    few = Split(split.images[:RANKING], split.labels[:RANKING])
    recipes = terms.costs.model.recipes

    def sureness(candidate: Candidate) -> float:
        """Mean probability of the right class: accuracy, but it moves before answers change."""
        images = calibration(terms.data, candidate, terms.calibration_images, recipes)
        logits = expected_logits(candidate, network, few, recipes, images)
        return logits.softmax(1).gather(1, few.labels[:, None]).mean().item()

    def latency(candidate: Candidate) -> float:
        return terms.costs(candidate)["latency_ms"]

    return ranked(candidate, sureness, latency, terms.allows)


def delivered(pareto: Path, key: str) -> bool:
    """Whether a finalist has its artifact, under its own key or that of what it became."""
    found = (read_manifest(path.parent) for path in pareto.glob(f"[!.]*/{MANIFEST}"))
    return any(key in manifest["finalists"] for manifest in found)


def _settle(unfinished: Path, folder: Path, manifest: dict[str, Any]) -> Path:
    """Give the folder its name; where another finalist became the same model, that one stays."""
    if folder.exists():
        shutil.rmtree(unfinished)
        there = read_manifest(folder)
        write_manifest(folder, there | {"finalists": there["finalists"] | manifest["finalists"]})
        return folder
    write_manifest(unfinished, manifest)
    unfinished.rename(folder)
    sync_folder(folder.parent)
    return folder
