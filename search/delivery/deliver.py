"""Deliver: make a trained finalist an artifact that passes its checks, decompressed if needed."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...cost_models import Device
from ...spaces import Candidate
from ...spaces.errors import CostError, RunError
from ...spaces.exits import has_exits
from ...spaces.networks import Network
from ..config.sections import TokenForm
from ..data.dataset import Data
from ..pareto.objectives import MAXIMIZED, Objective, goal, violations
from ..scoring.evaluation import Evaluation
from ..scoring.predicted_costs import COUNTED, CostPredictor
from ..store.atomic_files import sync_folder
from ..training.accuracy import accuracy
from ..training.forward import predict
from .answering import answers_here
from .build import Build
from .checks import floor_on
from .claims import Accuracy, Check, Promised, Refused, Story, Trial, plain, read_part
from .decompression import Step, ranked, steps_back
from .distill_token import settle
from .exit_parts import Rule, read_rule, rule_for, write_rule
from .exit_promises import exits_of, with_shares
from .export import build_for, chosen_recipes, export_trained
from .gate import CORRECTION, DROPS, ROUNDING, STEP_BACK, Held, copy_of, hold, share_of, weights_of
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
PROMISED = [
    f"{name}{end}" for name in MAXIMIZED for end in ("", "_low", "_high")
]  # by the search, kept after steps back

log = logging.getLogger("vitpareto")


@dataclass(frozen=True)
class Terms:
    """Settings by which every artifact of a run is made and checked.

    Attributes:
        data: for calibration, ranking and checks.
        device: that will run the models.
        costs: predicts those of candidates on it.
        objectives: with the limits that a delivered model must keep.
        calibration_images: train images from which activation ranges are taken.
        seeds: of everything random that the artifact depends on, by name.
        retrain: (candidate, network) -> the network trained a little more, after a step back or
            without its distillation token.
        others: predictors of costs on other devices that the run is for, by name.
        drops: stage -> by how much the accuracy of an artifact may fall in it.
        distill_token: form in which networks with a distillation token are delivered.
        exit_drop: by how much exits may lower the accuracy of the whole network.
    """

    data: Data
    device: Device
    costs: CostPredictor
    objectives: Sequence[Objective]
    calibration_images: int
    seeds: Mapping[str, int]
    retrain: Callable[[Candidate, Network], Network]
    others: Mapping[str, CostPredictor] = field(default_factory=dict[str, CostPredictor])
    drops: Mapping[str, float] = field(default_factory=lambda: DROPS)
    distill_token: TokenForm = "fused"
    exit_drop: float = 0.0

    @property
    def goal(self) -> str:
        """Name of the accuracy that the run maximizes."""
        return goal(self.objectives)

    def build(self, candidate: Candidate, network: Network, compensate: bool = False) -> Build:
        """Make a candidate ready for the device.

        Raises:
            CostError: a precision that the device cannot run.
            RunError: there are too few calibration images.
        """
        recipes, count = self.costs.model.recipes, self.calibration_images
        return build_for(self.device, candidate, network, recipes, self.data, count, compensate)

    def allows(self, candidate: Candidate) -> bool:
        """Whether the device runs a candidate, and its predicted costs keep the limits."""
        try:
            predicted = self.costs(candidate)
        except CostError:
            return False
        return all(excess <= 0 for excess in violations(predicted, self.objectives).values())


def deliver(
    pareto: Path,
    evaluation: Evaluation,
    network: Network,
    terms: Terms,
    ladder: str | None = None,
    ways: Mapping[str, Trial] | None = None,
    corrected: bool = False,
) -> Path:
    """Make the artifact of a finalist, less compressed if its answers fail their checks.

    If they fail, norms and biases are first corrected for rounding, which adds no latency. Then
    compression is taken back step by step, each followed by a little training instead of that
    correction. Training is needed because weights trained at 2 bits do badly at 8: on digits such
    a model reached 78% with everything taken back, and 95% after 8 steps with four passes each.
    A stage after which the artifact still fails, and is less right than before by more than
    `terms.drops` allows, is undone: artifact and weights are those from before it.

    The folder is renamed when all its files are written, so that a killed process leaves none
    that looks finished. Measurements on the device are added to its manifest later, by
    `verify.verify_new`.

    A distillation token is first fused or dropped, as the terms say, and both are judged. What is
    left without it is trained a little more: one on digits had 96.7% with it, and 89.0% then.

    Args:
        pareto: folder of all artifacts.
        evaluation: of the finalist by the search, which promises an accuracy; what training
            reached in torch is another promise.
        network: of the finalist, trained; steps back change it in place.
        terms: of the run.
        ladder: name in the ladder of a model that no search found.
        ways: in which it was trained, and how right each was.
        corrected: whether norms and biases are corrected from the start.

    Returns:
        The folder of the artifact.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written, or there are too few calibration images.
    """
    unfinished, split = pareto / f".{evaluation.key}", terms.data.split("validation")
    settled = settle(evaluation.candidate, network, terms.distill_token, split)
    candidate, network = settled.candidate, settled.network
    if candidate != evaluation.candidate:  # the class head learns to do without the other token
        network = _retrained(candidate, network, terms)
    refused, taken = list[Refused](), list[Step]()
    ahead: list[Step] = []
    undone, spoils = list[str](), set[Step]()
    compensate = tried = corrected
    stage = ROUNDING
    held: Held | None = None
    while True:
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            answers = accuracy(predict(candidate, network, split), split.labels)
        except ArithmeticError:
            if held is None:
                raise
            answers = dict.fromkeys(plain(held.trained), 0.0)
        trained = Accuracy(**answers)
        low = floor_on(split.labels, terms.goal, evaluation.metrics[f"{terms.goal}_low"], trained)
        if ROUNDING in terms.drops:
            low = max(low, trained.interval(terms.goal)[1] - terms.drops[ROUNDING])
        if has_exits(candidate.architecture):
            low -= terms.exit_drop
        build = terms.build(candidate, network, compensate)
        checks, files = attempt(unfinished, build, low, terms)
        failed = [check for check in checks if not check.holds]
        if not failed:
            break
        log.info("%s does not hold: %s", candidate.key, failed[0])
        refused.append(Refused(candidate.key, compensate, tuple(checks)))
        share = share_of(checks)
        if held is not None and share < held.share - terms.drops[stage]:
            what = COMPENSATED if stage == CORRECTION else str(taken[-1])
            spoils |= {taken[-1]} if stage == STEP_BACK else set()
            undone.append(f"{what}: {max(share, 0):.1%} after {held.share:.1%}")
            log.warning("%s: undone: %s", candidate.key, undone[-1])
            held.restore(unfinished, network)
            candidate, compensate, trained = held.candidate, held.compensate, held.trained
            files, taken = tuple(held.files), taken[: held.steps]
        else:
            about = candidate, compensate, trained, files, share, len(taken)
            held = hold(unfinished, network, *about)
        if not tried and steps_back(candidate):
            log.info("%s again: %s", candidate.key, COMPENSATED)
            stage, compensate, tried = CORRECTION, True, True
            continue
        ahead = ahead or steps_for(candidate, network, terms)
        following = [s for s in ahead if s not in spoils and terms.allows(s.apply(candidate))]
        if not following:
            break
        step = following[0]
        log.info("%s takes back %s", candidate.key, step)
        ahead = [other for other in following if other.path != step.path]
        stage, candidate = STEP_BACK, step.apply(candidate)
        network = _retrained(candidate, network, terms)
        taken.append(step)
    shutil.rmtree(copy_of(unfinished), ignore_errors=True)
    rule = read_rule(unfinished) if has_exits(candidate.architecture) else None
    manifest = Manifest(
        key=candidate.key,
        finalists={
            evaluation.key: Story(
                tuple(refused),
                (*map(str, taken), *([COMPENSATED] if compensate else [])),
                tuple(undone),
            )
        },
        made=now(),
        versions=versions(),
        seeds=terms.seeds,
        device=terms.device,
        identity=terms.costs.model.identity,
        recipes=chosen_recipes(candidate, terms.costs.model.recipes),
        calibration_images=terms.calibration_images,
        compensated=compensate,
        preprocessing=Preprocessing.of(terms.data),
        promised=_promised(evaluation, candidate, terms, rule),
        anchors=terms.costs.model.pace,
        trained=trained,
        limits={o.name: o.limit for o in terms.objectives if o.limit is not None},
        goal=terms.goal,
        ladder=ladder,
        files=hashes(unfinished, files),
        ways=ways or {},
        distill_token=settled.forms,
        elsewhere=_elsewhere(candidate, terms),
        exits=rule and exits_of(rule),
    )
    return _settle(unfinished, pareto / candidate.key, manifest)


def _retrained(candidate: Candidate, network: Network, terms: Terms) -> Network:
    """The network trained a little more; as it was, if that gave no numbers."""
    before = weights_of(network)
    try:
        trained = terms.retrain(candidate, network)
        if all(value.isfinite().all() for value in trained.state_dict().values()):
            return trained
        why = "it has weights that are no numbers"
    except RunError as error:  # such as a loss that is no number
        why = str(error)
    log.warning("%s: training a little more is undone: %s", candidate.key, why)
    network.load_state_dict(before)
    return network


def _promised(
    evaluation: Evaluation, candidate: Candidate, terms: Terms, rule: Rule | None
) -> Promised:
    """Promises of a candidate that a finalist became."""
    predicted = terms.costs(candidate)
    # The finalist's costs were measured, those of a less compressed candidate were not.
    known = evaluation.metrics if candidate == evaluation.candidate else predicted
    values = {n: evaluation.metrics[n] for n in PROMISED if n in evaluation.metrics}
    values |= {name: known[name] for name in predicted}
    promised = read_part(Promised, values | {"predicted_ms": predicted["latency_ms"]})
    if rule is None:
        return promised
    images = len(terms.data.split("validation"))
    return with_shares(promised, candidate, rule, terms.costs.model, images)


def _elsewhere(candidate: Candidate, terms: Terms) -> dict[str, dict[str, float]] | None:
    """Predicted costs of a candidate on other devices; None in a run for one."""
    known: dict[str, dict[str, float]] = {}
    for name, costs in terms.others.items():
        with contextlib.suppress(CostError):  # after steps back it may hold what one cannot run
            known[name] = {n: v for n, v in costs(candidate).items() if n not in COUNTED}
    return known or None


def attempt(
    folder: Path, build: Build, low: float, terms: Terms
) -> tuple[list[Check], tuple[str, ...]]:
    """Write the artifact of a build and check its answers; the checks and its files.

    Args:
        folder: to write to.
        build: of the candidate.
        low: least accuracy that is allowed.
        terms: of the run.
    """
    files = export_trained(folder, build, terms.device, Preprocessing.of(terms.data))
    split, identity = terms.data.split("validation"), terms.costs.model.identity
    if has_exits(build.candidate.architecture):
        part_ms = terms.costs.model.exit_ms(build.candidate)
        rule = rule_for(build, split, terms.goal, part_ms, terms.exit_drop)
        files = (*files, write_rule(folder, rule))
    _, checks = answers_here(folder, terms.device, identity, build, split, low, terms.goal)
    return checks, files


def steps_for(candidate: Candidate, network: Network, terms: Terms) -> list[Step]:
    """Rank the steps back from a candidate on the search split."""
    few = terms.data.split("search").some(RANKING)

    def sureness(candidate: Candidate) -> float:
        """Mean probability of the right class, which changes before the accuracy does."""
        logits = terms.build(candidate, network).logits(few)
        return logits.softmax(1).gather(1, few.labels[:, None]).mean().item()

    def latency(candidate: Candidate) -> float:
        return terms.costs(candidate)["latency_ms"]

    return ranked(candidate, sureness, latency, terms.allows)


def delivered(pareto: Path, key: str) -> bool:
    """Whether a finalist has an artifact, under its own key or that of what it became."""
    written = (read_manifest(path.parent) for path in pareto.glob(f"[!.]*/{MANIFEST}"))
    return any(key in manifest.finalists for manifest in written)


def _settle(unfinished: Path, folder: Path, manifest: Manifest) -> Path:
    """Rename the folder; if another finalist became the same model, that artifact stays."""
    if folder.exists():
        shutil.rmtree(unfinished)
        first = read_manifest(folder)
        finalists = {**first.finalists, **manifest.finalists}
        write_manifest(folder, replace(first, finalists=finalists))
        return folder
    write_manifest(unfinished, manifest)
    unfinished.rename(folder)
    sync_folder(folder.parent)
    return folder
