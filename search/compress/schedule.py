"""Schedule: compression that grows during training, so that the network can follow it."""

from __future__ import annotations

from dataclasses import replace

from ...spaces import Candidate, Policy
from ...spaces.compression import INTEGER_BITS, Compression, StagePolicy

BITS = (32, 8, 6, 4, 3, 2)  # weights stop at each of these on the way to their own


def candidate_at(candidate: Candidate, progress: float, ramp: float) -> Candidate:
    """The candidate with its compression as far as it is applied at a point of its training.

    Args:
        candidate: what is trained.
        progress: share of the steps done, in [0, 1].
        ramp: share of the steps by whose end the whole compression is on; 0 from the start.
    """
    done = progress / ramp if progress < ramp else 1.0

    def at(policy: Policy) -> Policy:
        return policy_at(policy, done)

    whole = candidate.compression
    stages = tuple(
        StagePolicy(tuple(map(at, s.mixer)), tuple(map(at, s.mlp)), at(s.downsample))
        for s in whole.stages
    )
    compression = Compression(stages, at(whole.stem), at(whole.head))
    return Candidate(candidate.architecture, compression)


def policy_at(policy: Policy, done: float) -> Policy:
    """A policy as far as it is applied at a point of the ramp.

    Weights start in float and go down in steps of equal length, 32, 8, 6, 4, to their own bits:
    lowered at once to 4 a network may not recover. Activations are rounded as soon as weights
    are integers. Sparsity follows the cubic ramp of Zhu and Gupta (arXiv:1710.01878): fast while
    much is superfluous, slow at the end. Rank is what it is from the start. What is left of the
    training adapts to all of it.

    Args:
        policy: of a finished sub-block.
        done: share of the ramp, in [0, 1].

    >>> [policy_at(Policy(4, 8), done / 6).weight_bits for done in range(7)]
    [32, 32, 8, 8, 6, 6, 4]
    """
    sparsity = policy.sparsity * (1 - (1 - done) ** 3)
    bits = policy.weight_bits
    if bits <= INTEGER_BITS:
        ladder = [*(b for b in BITS if b > bits), bits]
        bits = ladder[min(int(done * (len(ladder) - 1) + 1e-9), len(ladder) - 1)]
    return replace(policy, weight_bits=bits, sparsity=sparsity)
