"""Rank statistics: agreement of two rankings, with intervals.

Every figure has a 95% interval from the percentile bootstrap over the ranked items (Efron and
Tibshirani 1993, chapter 13). Two proxies are compared on the same resamples, so that their common
variation cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Statistic = Callable[[Vector, Vector], float]

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def kendall_tau(x: Vector, y: Vector) -> float:
    """Kendall's tau-b of two vectors (N,): ties count for neither order (Kendall 1945).

    NaN where one of the two is constant.

    >>> kendall_tau(np.array([1.0, 2, 3]), np.array([10.0, 30, 20]))
    0.3333333333333333
    """
    a, b = (np.sign(v[:, None] - v) for v in (x, y))
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale else float("nan")


def spearman(x: Vector, y: Vector) -> float:
    """Spearman's rho: the correlation of ranks (N,), tied items sharing their mean rank."""
    a, b = (ranks(v) - (len(v) - 1) / 2 for v in (x, y))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")


def ranks(x: Vector) -> Vector:
    """Ranks from 0, ties sharing their mean: (N,) -> (N,).

    >>> ranks(np.array([5.0, 1, 5])).tolist()
    [1.5, 0.0, 1.5]
    """
    below, equal = x[:, None] > x, x[:, None] == x
    return below.sum(1) + (equal.sum(1) - 1) / 2


def top_k_regret(proxy: Vector, truth: Vector, k: int) -> float:
    """Difference between the best item and the best of the proxy's first `k`.

    Items that tie at the proxy's k-th rank all count, as all of them would be trained.
    """
    chosen = proxy >= np.sort(proxy)[-min(k, len(proxy))]
    return float(truth.max() - truth[chosen].max())


def within_terciles(proxy: Vector, truth: Vector, size: Vector) -> float:
    """Mean tau inside the small, middle and large third, where size alone ranks little."""
    order = np.argsort(size, kind="stable")
    taus = [kendall_tau(proxy[third], truth[third]) for third in np.array_split(order, 3)]
    known = [tau for tau in taus if not np.isnan(tau)]
    return float(np.mean(known)) if known else float("nan")


def sign_agreement(proxy: Vector, truth: Vector, noise: float = 0.0) -> tuple[float, int]:
    """Number of matched pairs of which the proxy picks the better one.

    Args:
        proxy: difference of the proxy inside each pair (P,).
        truth: difference of the measurements (P,).
        noise: pairs that differ by no more are left out, as no proxy can order them.

    Returns:
        Pairs that agree, a tie of the proxy being half a pair, and pairs that were counted.
    """
    counted = np.abs(truth) > noise
    signs = np.sign(proxy[counted]) * np.sign(truth[counted])
    return float((1 + signs).sum() / 2), int(counted.sum())


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float],
    n: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Compute a figure of `n` items with its interval.

    Args:
        statistic: figure of the items with these indices; NaN where it is undefined.
        n: number of items.
        seed: of the resamples; figures with the same seed are comparable.
        resamples: number of them.
    """
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(rng.integers(n, size=n)) for _ in range(resamples)])
    value, known = statistic(np.arange(n)), drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(known, PERCENTILES)
    return Interval(value, float(low), float(high))


def correlation(statistic: Statistic, proxy: Vector, truth: Vector, seed: int = 0) -> Interval:
    """`kendall_tau` or `spearman` with its interval."""
    return bootstrap(lambda i: statistic(proxy[i], truth[i]), len(truth), seed)


def advantage(proxy: Vector, baseline: Vector, truth: Vector, seed: int = 0) -> Interval:
    """Difference in tau between the proxy and a baseline, on the same resamples."""
    return bootstrap(
        lambda i: kendall_tau(proxy[i], truth[i]) - kendall_tau(baseline[i], truth[i]),
        len(truth),
        seed,
    )


def seed_noise(runs: Sequence[Sequence[float]]) -> float:
    """Noise of accuracies: variance among seeds relative to that of one coin flip, p(1 - p).

    One number then fits good and bad networks, since accuracies near 1 vary less.

    Args:
        runs: for each network the accuracies of its seeds; those with one seed are ignored.

    Returns:
        The factor; NaN where no network has two seeds.
    """
    repeated = [np.asarray(run) for run in runs if len(run) > 1]
    if not repeated:
        return float("nan")
    squares = sum(float(((run - run.mean()) ** 2).sum()) for run in repeated)
    expected = sum((len(run) - 1) * _coin(run.mean()) for run in repeated)
    return squares / expected if expected else 0.0


def noise_ceiling(runs: Sequence[Sequence[float]], images: int, seed: int = 0) -> Interval:
    """Tau of a proxy that knows each network's true mean accuracy: no proxy can do better.

    True means are the measured ones, shrunk toward their mean by the variance of the noise. Then
    every training is repeated with fresh noise (Monte Carlo).

    Args:
        runs: for each network the accuracies of its seeds, some of them with several.
        images: number on which accuracy was measured, which has steps of 1 / images.
        seed: of the noise.

    Returns:
        The mean over repetitions; the interval holds 95% of them. NaN where no network has two
        seeds.
    """
    means, counts = np.array([np.mean(run) for run in runs]), np.array([len(r) for r in runs])
    factor = seed_noise(runs)
    variance = factor * _coin(means) / counts
    spread = float(means.var(ddof=1)) if len(means) > 1 else 0.0
    if np.isnan(factor) or not spread:
        return Interval(*(float("nan"),) * 3)
    true = means.mean() + (means - means.mean()) * np.sqrt(
        max(0.0, 1 - float(variance.mean()) / spread)
    )
    rng = np.random.default_rng(seed)
    steps = images * counts
    taus = [
        kendall_tau(true, np.round((true + rng.normal(0, np.sqrt(variance))) * steps) / steps)
        for _ in range(RESAMPLES)
    ]
    low, high = np.nanpercentile(taus, PERCENTILES)
    return Interval(float(np.nanmean(taus)), float(low), float(high))


def _coin(share: Any) -> Any:
    """Variance of one trial that succeeds with probability `share`."""
    return share * (1 - share)


def ridge(features: Vector, truth: Vector, seed: int = 0, halvings: int = 20) -> Vector:
    """Predict each network by ridge regression on half of the others' trainings.

    This baseline needs no weights, only some trained networks. Each prediction is the mean over
    random halves that do not hold the network.

    Args:
        features: of each network (N, F).
        truth: measured accuracy (N,).
        seed: of the halves.
        halvings: number of random halvings.

    Returns:
        Out-of-sample predictions (N,).
    """
    n = len(truth)
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-12)
    rng = np.random.default_rng(seed)
    total = np.zeros(n)
    for _ in range(halvings):
        order = rng.permutation(n)
        for out, fit in ((order[: n // 2], order[n // 2 :]), (order[n // 2 :], order[: n // 2])):
            center = scaled[fit].mean(0)
            x, mean = scaled[fit] - center, truth[fit].mean()
            weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (truth[fit] - mean))
            total[out] += mean + (scaled[out] - center) @ weights
    return total / halvings
