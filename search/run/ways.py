"""Ways: of several trainings of a finalist the simplest is delivered that no other beats.

Rounding after a training (PTQ) takes no more than calibration; rounding while it trains (QAT) is
worth its time only where the finished model is more often right than chance explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from ...spaces import Candidate, Policy
from ...spaces.compression import INTEGER_BITS
from ...spaces.networks import Network
from ..config.trainings import Way
from ..delivery.claims import Trial
from ..delivery.decompression import policies, with_policy
from ..delivery.terms import Terms
from ..training.accuracy import Z, accuracy


class Chosen(NamedTuple):
    """What became of the trainings of a finalist.

    Attributes:
        network: of the way that is delivered.
        compensate: whether its norms and biases are corrected for rounding from the start.
        trials: how right each way was; empty where there was one alone.
    """

    network: Network
    compensate: bool
    trials: Mapping[str, Trial]


def trained_as(candidate: Candidate, ways: Sequence[Way]) -> dict[Way, Candidate]:
    """What is trained in each way: what is rounded after it has no rounding while it trains.

    A candidate that rounds nothing is trained in the last way alone, as all are the same.
    """
    found = policies(candidate)
    rounds = {path: p for path, p in found.items() if p.weight_bits <= INTEGER_BITS}
    if not rounds:
        return {ways[-1]: candidate}
    plain = candidate
    for path, policy in rounds.items():
        plain = with_policy(plain, path, Policy(others=policy.others))
    return {way: plain if way == "ptq" else candidate for way in ways}


def choose(
    candidate: Candidate, trained: Mapping[str, tuple[Network, float]], terms: Terms
) -> Chosen:
    """Choose among the trainings of a finalist, by the validation images.

    Args:
        candidate: with its rounding.
        trained: way -> network and seconds of its training, the simplest first.
        terms: of the run; artifacts will round as theirs.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: there are too few calibration images.
    """
    if len(trained) == 1 and "ptq" not in trained:
        return Chosen(next(iter(trained.values()))[0], False, {})
    split = terms.data.split("validation")
    rights, trials, corrected = dict[str, Tensor](), dict[str, Trial](), dict[str, bool]()
    for way, (network, seconds) in trained.items():
        tried = {c: terms.build(candidate, network, c).logits(split) for c in (False, way == "ptq")}
        shares = {c: accuracy(logits, split.labels) for c, logits in tried.items()}
        corrected[way] = max(shares, key=lambda c: shares[c][terms.goal])
        rights[way] = tried[corrected[way]].argmax(1) == split.labels
        trials[way] = Trial(**shares[corrected[way]], seconds=seconds, delivered=False)
    best = simplest(rights)
    trials[best] = replace(trials[best], delivered=True)
    return Chosen(trained[best][0], corrected[best], trials if len(trials) > 1 else {})


def simplest(rights: Mapping[str, Tensor]) -> str:
    """The first way that none after it beats by more than chance.

    That is McNemar's test on the images of which just one of two is right, at 95%.

    Args:
        rights: way -> which images it classified correctly (N,), the simplest first.
    """
    names = list(rights)
    best = names[0]
    for other in names[1:]:
        gained = int((rights[other] & ~rights[best]).sum())
        lost = int((rights[best] & ~rights[other]).sum())
        if gained - lost > Z * math.sqrt(gained + lost):
            best = other
    return best
