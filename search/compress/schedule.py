"""Schedule: compression that grows during training, so that the network can follow it."""

from __future__ import annotations

from functools import cache

from ...spaces import Candidate, Policy
from ...spaces.compression import Compression, StagePolicy
from ...spaces.transforms import policy_transforms


def candidate_at(candidate: Candidate, progress: float, ramp: float) -> Candidate:
    """The candidate with its compression as far as it is applied at a point of its training.

    Args:
        candidate: what is trained.
        progress: share of the steps done, in [0, 1].
        ramp: share of the steps by whose end the whole compression is on; 0 from the start.
    """
    if progress >= ramp:
        return candidate

    @cache
    def at(policy: Policy) -> Policy:
        return policy_at(policy, progress / ramp)

    whole = candidate.compression
    stages = tuple(
        StagePolicy(tuple(map(at, s.mixer)), tuple(map(at, s.mlp)), at(s.downsample))
        for s in whole.stages
    )
    compression = Compression(stages, at(whole.stem), at(whole.head))
    return Candidate(candidate.architecture, compression)


def policy_at(policy: Policy, done: float) -> Policy:
    """A policy as far as it is applied at a point of the ramp.

    Every field has a ramp of its own, or is on from the start. Activations are rounded as soon
    as weights are integers. What is left of the training adapts to all of it.

    Args:
        policy: of a finished sub-block.
        done: share of the ramp, in [0, 1].

    >>> [policy_at(Policy(4, 8), done / 6).weight_bits for done in range(7)]
    [32, 32, 8, 8, 6, 6, 4]
    """
    known = policy_transforms()
    applied = {name: known[name].at(v, done) for name, v in policy.changes().items()}
    if applied.get("weight_bits", 32) != policy.weight_bits:  # kernels of blocks know the last ones
        applied.pop("weight_scales", None)
    return Policy(**applied)
