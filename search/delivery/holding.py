"""Holding: an artifact that passes its checks, of a candidate that is less compressed if needed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...spaces import Candidate, Policy
from ...spaces.errors import RunError
from ...spaces.exits import has_exits
from ...spaces.networks import Network
from ..data.dataset import Split
from ..scoring.evaluation import Evaluation
from ..training.accuracy import accuracy
from ..training.forward import predict
from .answering import answers_here
from .build import Build
from .checks import floor_on
from .claims import Accuracy, Check, Effect, Refused, Story, plain
from .decompression import Step, policies, ranked, steps_back
from .exit_parts import rule_for, write_rule
from .export import export_trained
from .gate import CORRECTION, ROUNDING, STEP_BACK, Held, copy_of, hold, share_of, weights_of
from .preprocessing import Preprocessing
from .terms import Terms

RANKING = 512  # search images on which steps back are compared
COMPENSATED = "norms rescaled and biases corrected, nothing given back"
COMPRESSED, EXPORTED = "compressed, in torch", "exported"

log = logging.getLogger("vitpareto")


@dataclass(frozen=True)
class Holding:
    """An artifact that was made, and how.

    Attributes:
        candidate: that it is of.
        compensated: whether its norms and biases are corrected for rounding.
        trained: how right its network is in torch.
        files: their names.
        story: what was refused and taken back, and what each stage did.
    """

    candidate: Candidate
    compensated: bool
    trained: Accuracy
    files: Sequence[str]
    story: Story


def make_hold(
    folder: Path,
    evaluation: Evaluation,
    candidate: Candidate,
    network: Network,
    terms: Terms,
    corrected: bool,
) -> Holding:
    """Write the artifact of a finalist, less compressed if its answers fail their checks.

    If they fail, norms and biases are first corrected for rounding, which adds no latency. Then
    compression is taken back step by step, each followed by a little training instead of that
    correction. Training is needed because weights trained at 2 bits do badly at 8: on digits such
    a model reached 78% with everything taken back, and 95% after 8 steps with four passes each.
    A stage after which the artifact still fails, and is less right than before by more than
    `terms.drops` allows, is undone: artifact and weights are those from before it.

    Args:
        folder: to write to; what is there is removed.
        evaluation: of the finalist by the search, which promises an accuracy.
        candidate: to begin with.
        network: of it, trained; steps back change it in place.
        terms: of the run.
        corrected: whether norms and biases are corrected from the start.

    Returns:
        What was written; the last that was tried where nothing holds.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written, or there are too few calibration images.
    """
    refused, taken = list[Refused](), list[Step]()
    effects = list[Effect]()
    ahead, spoils = list[Step](), set[Step]()
    compensate = tried = corrected
    stage, what = ROUNDING, ", ".join([EXPORTED, *([COMPENSATED] if corrected else [])])
    held: Held | None = None
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        trained = _in_torch(candidate, network, terms.data.split("validation"), held)
        low = _least(evaluation, candidate, trained, terms)
        checks, files = attempt(folder, terms.build(candidate, network, compensate), low, terms)
        failed = [check for check in checks if not check.holds]
        share = share_of(checks)
        spoilt = bool(failed and held and share < held.share - terms.drops[stage])
        before = held.share if held else trained.interval(terms.goal)[1]
        found = [] if effects else _compressed(candidate, network, trained, terms)
        found.append(Effect(what, max(before, 0.0), max(share, 0.0), spoilt))
        for effect in found:
            log.info("%s: %s", candidate.key, effect)
        effects += found
        if not failed:
            break
        log.info("%s does not hold: %s", candidate.key, failed[0])
        refused.append(Refused(candidate.key, compensate, tuple(checks)))
        if held and spoilt:
            spoils |= {taken[-1]} if stage == STEP_BACK else set()
            log.warning("%s: undone: %s", candidate.key, what)
            held.restore(folder, network)
            candidate, compensate, trained = held.candidate, held.compensate, held.trained
            files, taken = tuple(held.files), taken[: held.steps]
        else:
            about = candidate, compensate, trained, files, share, len(taken)
            held = hold(folder, network, *about)
        if not tried and steps_back(candidate):
            log.info("%s again: %s", candidate.key, COMPENSATED)
            stage, what, compensate, tried = CORRECTION, COMPENSATED, True, True
            continue
        ahead = ahead or steps_for(candidate, network, terms)
        following = [s for s in ahead if s not in spoils and terms.allows(s.apply(candidate))]
        if not following:
            break
        step = following[0]
        log.info("%s takes back %s", candidate.key, step)
        ahead = [other for other in following if other.path != step.path]
        stage, what, candidate = STEP_BACK, str(step), step.apply(candidate)
        network = retrained(candidate, network, terms)
        taken.append(step)
    shutil.rmtree(copy_of(folder), ignore_errors=True)
    told = (*map(str, taken), *([COMPENSATED] if compensate else []))
    story = Story(tuple(refused), told, tuple(effects))
    return Holding(candidate, compensate, trained, files, story)


def _compressed(
    candidate: Candidate, network: Network, trained: Accuracy, terms: Terms
) -> list[Effect]:
    """What bits, zeros and ranks do to a trained network; nothing where there are none.

    Pruning is no part of it: the network is as small already.
    """
    left = (
        p.only(lambda transform: transform.on != "numbers") for p in policies(candidate).values()
    )
    if all(policy == Policy() for policy in left):
        return []
    uncompressed = Candidate.uncompressed(candidate.architecture)
    try:
        whole = _in_torch(uncompressed, network, terms.data.split("validation"), None)
    except ArithmeticError:  # which its weights need not bear
        return []
    before, after = (each.interval(terms.goal)[1] for each in (whole, trained))
    return [Effect(COMPRESSED, before, after)]


def _in_torch(candidate: Candidate, network: Network, split: Split, held: Held | None) -> Accuracy:
    """How right a network is; 0 where a step back has left it without numbers."""
    try:
        return Accuracy(**accuracy(predict(candidate, network, split), split.labels))
    except ArithmeticError:
        if held is None:
            raise
        return Accuracy(**dict.fromkeys(plain(held.trained), 0.0))


def _least(evaluation: Evaluation, candidate: Candidate, trained: Accuracy, terms: Terms) -> float:
    """Least accuracy with which an artifact holds."""
    labels, promised = terms.data.split("validation").labels, evaluation.metrics
    low = floor_on(labels, terms.goal, promised[f"{terms.goal}_low"], trained)
    if ROUNDING in terms.drops:
        low = max(low, trained.interval(terms.goal)[1] - terms.drops[ROUNDING])
    return low - terms.exit_drop if has_exits(candidate.architecture) else low


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


def retrained(candidate: Candidate, network: Network, terms: Terms) -> Network:
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
