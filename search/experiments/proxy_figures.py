"""Proxy figures: how well scores rank candidates, beside baselines that need no weights."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from ...cost_models import workload
from ...spaces import Candidate
from ...spaces.errors import RunError
from ..training.accuracy import wilson
from .rank_statistics import (
    Interval,
    Vector,
    advantage,
    bootstrap,
    correlation,
    kendall_tau,
    noise_ceiling,
    ridge,
    seed_noise,
    sign_agreement,
    spearman,
    top_k_regret,
    within_terciles,
)
from .stratified_pairs import Pair
from .verdict import trusted, verdict

REGRET = (1, 5)  # numbers of candidates that the proxy may pick


def proxy_figures(
    candidates: Sequence[Candidate],
    scores: Sequence[float],
    runs: Sequence[Sequence[float]],
    pairs: Sequence[Pair],
    images: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures about a proxy, as JSON; a figure `x` has its interval in `x_low` and `x_high`.

    Args:
        candidates: that were trained alone.
        scores: of each, by the proxy.
        runs: accuracies of each by seed.
        pairs: candidates that differ along one axis alone.
        images: number on which accuracies were measured.
        seed: of the resamples.

    Raises:
        RunError: all scores or all accuracies are equal, so there is nothing to rank.
    """
    proxy, truth = np.array(scores), np.array([float(np.mean(run)) for run in runs])
    if len(set(proxy)) == 1 or len(set(truth)) == 1:
        which = "trained alone" if len(set(truth)) == 1 else "scored"
        raise RunError(f"proxy: all {len(truth)} candidates are equally accurate when {which}")
    facts = features(candidates)
    macs = facts[:, FEATURES.index("macs")]
    baselines = {name: facts[:, FEATURES.index(name)] for name in ("params", "macs", "depth")}
    baselines["ridge"] = ridge(np.log(facts), truth, seed)
    taus = {
        name: correlation(kendall_tau, values, truth, seed) for name, values in baselines.items()
    }
    best = max(taus, key=lambda name: np.nan_to_num(taus[name].value, nan=-1.0))
    noise = seed_noise(runs)
    sd = None if np.isnan(noise) else float(np.sqrt(noise * np.mean(truth * (1 - truth))))
    ceiling = noise_ceiling(runs, images, seed)
    tau = correlation(kendall_tau, proxy, truth, seed)
    gain = advantage(proxy, baselines[best], truth, seed)
    regret = {
        f"top_{k}_regret": bootstrap(
            lambda i, k=k: top_k_regret(proxy[i], truth[i], k), len(truth), seed
        )
        for k in REGRET
    }
    within = bootstrap(lambda i: within_terciles(proxy[i], truth[i], macs[i]), len(truth), seed)
    return {
        "trusted": trusted(tau, ceiling, gain),
        "verdict": verdict(tau, ceiling, gain, len(truth)),
        **_flat("kendall_tau", tau),
        **_flat("spearman", correlation(spearman, proxy, truth, seed)),
        **{k: v for name, value in regret.items() for k, v in _flat(name, value).items()},
        **_flat("within_tercile_tau", within),
        **_flat("noise_ceiling", ceiling),
        "seed_sd": sd,
        "accuracy_sd": float(truth.std(ddof=1)),
        "baselines": {name: _flat("kendall_tau", value) for name, value in taus.items()},
        "best_baseline": best,
        **_flat("advantage", gain),
        "sign_agreement": agreement(candidates, proxy, truth, pairs, sd or 0.0),
        "candidates": [
            {"key": candidate.key, "score": score, "accuracy": accuracy, "by_seed": list(run)}
            | dict(zip(FEATURES, row, strict=True))
            for candidate, score, accuracy, run, row in zip(
                candidates, scores, truth.tolist(), runs, facts.tolist(), strict=True
            )
        ],
    }


FEATURES = ("params", "macs", "depth", "width", "tokens", "weight_bits")


def features(candidates: Sequence[Candidate]) -> Vector:
    """Features of candidates that need no weights: (N, 6), see `FEATURES`."""
    rows: list[tuple[float, ...]] = []
    for candidate in candidates:
        work, a = workload(candidate), candidate.architecture
        policies = [p for s in candidate.compression.stages for p in (*s.mixer, *s.mlp)]
        depth, width = len(list(a.blocks())), mean(stage.width for stage in a.stages)
        bits = mean(policy.weight_bits for policy in policies)
        rows.append((work.params, work.macs, depth, width, a.grid**2, bits))
    return np.array(rows, dtype=np.float64)


def agreement(
    candidates: Sequence[Candidate],
    proxy: Vector,
    truth: Vector,
    pairs: Sequence[Pair],
    noise: float,
) -> dict[str, dict[str, float]]:
    """Count matched pairs of which the proxy picks the better one, by axis and in total."""
    index = {candidate.key: i for i, candidate in enumerate(candidates)}
    whole = [pair for pair in pairs if {pair.first.key, pair.second.key} <= index.keys()]
    axes = sorted({pair.axis for pair in whole})
    by_axis: dict[str, dict[str, float]] = {}
    for axis in ("all", *axes):
        members = [pair for pair in whole if axis in ("all", pair.axis)]
        first, second = ([index[getattr(p, m).key] for p in members] for m in ("first", "second"))
        agree, counted = sign_agreement(
            proxy[second] - proxy[first], truth[second] - truth[first], noise
        )
        by_axis[axis] = {"agree": agree, "pairs": counted}
        if counted:
            low, high = wilson(agree, counted)
            by_axis[axis] |= {"share": agree / counted, "share_low": low, "share_high": high}
    return by_axis


def _flat(name: str, figure: Interval) -> dict[str, float | None]:
    """A figure and its interval by name, NaN as None for JSON."""
    parts = {"": figure.value, "_low": figure.low, "_high": figure.high}
    return {f"{name}{end}": None if np.isnan(value) else value for end, value in parts.items()}
