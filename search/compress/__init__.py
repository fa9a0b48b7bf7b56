"""Compression as functions on a network's parameters, the same in training, scoring and export.

Structured pruning needs none at that point: a pruned candidate is a smaller network, cut by
`importance` before.
"""

from .applied import transforms
from .deliver import compensated, deliverable, prepared
from .network import calibrate, run, run_batches
from .schedule import candidate_at

__all__ = [
    "calibrate",
    "candidate_at",
    "compensated",
    "deliverable",
    "prepared",
    "run",
    "run_batches",
    "transforms",
]
