"""Evaluation: what is known of a candidate, and the evaluator that scores one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cost_models.precision import Book
from ..spaces import Candidate
from ..spaces.networks import Network
from ..spaces.supernet import Supernet, blueprint
from .answer import placed
from .compress import run, run_batches
from .compress.network import DEFAULT_RECIPES
from .data import Split, resized
from .training import torch_device

BATCH = 256  # images at once
LEAST = 1e-3  # cross entropy and share below which differences mean nothing
Z = 1.96  # of a 95% interval
STATISTICS = 512  # train images from which batch-norm statistics are taken

Judge = Callable[[Candidate], dict[str, float]]  # accuracy with its interval, by name
Status = Literal["complete", "failed"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of scoring one candidate.

    Attributes:
        candidate: what was scored.
        status: "complete", or "failed" with a reason.
        metrics: values by name, costs and accuracy with its interval.
        seconds: that scoring took.
        reason: why it failed.
    """

    candidate: Candidate
    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    seconds: float = 0.0
    reason: str = ""

    @property
    def key(self) -> str:
        """The candidate's key."""
        return self.candidate.key

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it."""
        found: dict[str, Any] = {
            "key": self.key,
            "status": self.status,
            "metrics": dict(self.metrics),
            "seconds": round(self.seconds, 4),
        }
        if self.reason:
            found["reason"] = self.reason
        return found | {"candidate": self.candidate.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Inverse of `to_dict`.

        Raises:
            SpaceError: the candidate in it is none.
        """
        candidate = Candidate.from_dict(data["candidate"])
        return cls(
            candidate, data["status"], data["metrics"], data["seconds"], data.get("reason", "")
        )


class Evaluator:
    """Scores candidates with inherited weights on the search split.

    Args:
        supernet: trained shared weights.
        search: images that score.
        train: images from which batch-norm statistics are estimated.
        recipes: what the device runs each precision with; logits are then those of its kernels.
    """

    def __init__(
        self,
        supernet: Supernet,
        search: Split,
        train: Split,
        recipes: Book | Sequence[str] = DEFAULT_RECIPES,
    ) -> None:
        self.supernet, self._recipes = supernet, recipes
        self._search, self._train = search, train.images[:STATISTICS]

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """Accuracy with its 95% interval."""
        return accuracy(self.logits(candidate), self._search.labels)

    @torch.inference_mode()
    def logits(self, candidate: Candidate) -> Tensor:
        """Logits on the search split with the candidate's compression applied: (N, K)."""
        network, _ = blueprint(candidate.architecture)
        device, size = torch_device(), candidate.architecture.input_size
        params = placed(network, self.supernet.inherit(candidate), device)
        seen = resized(self._train, size).to(device)
        params |= batch_statistics(network, params, candidate, seen)
        batches = (b.to(device) for b in resized(self._search.images, size).split(BATCH))
        return run_batches(network.eval(), params, candidate, batches, self._recipes).cpu()


def batch_statistics(
    network: Network, params: Mapping[str, Tensor], candidate: Candidate, images: Tensor
) -> dict[str, Tensor]:
    """Running means and variances of one pass over `images`, by name; none without batch norm.

    Inherited statistics are those of a mixture of networks and fit none of them.
    """
    norms = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    if not norms:
        return {}
    found = {
        f"{name}.{buffer}": params[f"{name}.{buffer}"].clone()
        for name in norms
        for buffer in ("running_mean", "running_var")
    }
    usual = {module: module.momentum for module in norms.values()}
    for module in norms.values():
        module.momentum = 1.0  # statistics of this pass alone
    try:
        run(network.train(), {**params, **found}, candidate, images)
    finally:
        for module, momentum in usual.items():
            module.momentum = momentum
    return found


@torch.inference_mode()
def predict(candidate: Candidate, network: Network, split: Split) -> Tensor:
    """Logits of a network with weights of its own, compression applied: (N, K)."""
    params, network = network.state_dict(), network.eval()
    device = network.head.weight.device
    images = resized(split.images, candidate.architecture.input_size)
    batches = (batch.to(device) for batch in images.split(BATCH))
    return run_batches(network, params, candidate, batches).cpu()


def judged(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy with its interval and score, by name.

    Raises:
        ArithmeticError: as `accuracy`.
    """
    return accuracy(logits, labels) | {"score": score(logits, labels)}


def score(logits: Tensor, labels: Tensor) -> float:
    """How well labels are expected: minus the logarithm of the cross entropy.

    It orders networks better than their accuracy does, as it uses every image and not only
    those on which they differ in what is right.
    """
    return -math.log(max(F.cross_entropy(logits, labels).item(), LEAST))


def accuracy(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy with its 95% interval, by name.

    Raises:
        ArithmeticError: a logit is NaN or infinite.
    """
    if not torch.isfinite(logits).all():
        raise ArithmeticError("the logits are not all finite")
    correct = int((logits.argmax(1) == labels).sum())
    low, high = wilson(correct, len(labels))
    return {"accuracy": correct / len(labels), "accuracy_low": low, "accuracy_high": high}


def wilson(correct: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927).

    >>> low, high = wilson(95, 100)
    >>> round(low, 3), round(high, 3)
    (0.888, 0.978)
    """
    share, z2 = correct / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def evaluate(judge: Judge, candidate: Candidate, costs: Mapping[str, float]) -> Evaluation:
    """Score a candidate whose costs are known; a failure is an outcome, not an end.

    Failures that more candidates of the same kind would repeat (a missing file, an interrupt)
    are raised all the same.
    """
    start = time.perf_counter()
    try:
        metrics = judge(candidate)
    except (RuntimeError, ArithmeticError, MemoryError, ValueError) as error:
        seconds = time.perf_counter() - start
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Evaluation(candidate, "failed", dict(costs), seconds, reason)
    return Evaluation(candidate, "complete", {**metrics, **costs}, time.perf_counter() - start)
