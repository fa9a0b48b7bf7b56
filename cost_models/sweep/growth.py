"""Growth: the law by which latency grows with the size of the images.

A transformer has work that does not depend on the number of tokens, work for each token, and
attention for each pair of tokens, so that latency is a polynomial of the number of tokens. It is
often called exponential, which is fitted as well: the data tell which it is. Tokens are counted by
the pixels of an image, as a plain transformer has them; windows have no part that grows with their
square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..predict.regressor import nnls

Array = NDArray[np.float64]

FEWEST = 4  # sizes: one is left out, and three terms are fitted to the others


@dataclass(frozen=True)
class Growth:
    """How latency is made up at one size, and which law tells that of a size left out.

    Attributes:
        side: of an image in pixels.
        fixed_ms: that all sizes take.
        tokens_ms: that grow with the number of tokens, at this side.
        pairs_ms: that grow with its square, at this side.
        quadratic_error: mean relative error about each size, fitted to the others.
        exponential_error: likewise where latency is an exponential of the number of tokens.
    """

    side: int
    fixed_ms: float
    tokens_ms: float
    pairs_ms: float
    quadratic_error: float
    exponential_error: float

    @classmethod
    def fit(cls, ms: Mapping[int, float], side: int) -> Growth | None:
        """Learn from latencies by the side of an image; None of less than four.

        Args:
            ms: side in pixels -> latency.
            side: of which the parts are told.
        """
        if len(ms) < FEWEST:
            return None
        tokens = np.array([*ms], dtype=np.float64) ** 2 / side**2  # relative to those at this side
        values = np.array([*ms.values()])
        parts = _parts(tokens, values).tolist()
        errors = (_left_out(law, tokens, values) for law in (_quadratic, _exponential))
        return cls(side, *parts, *errors)


Law = Callable[[Array, Array], Callable[[Array], Array]]  # tokens, latencies -> what is foretold


def _parts(tokens: Array, ms: Array) -> Array:
    """Constant, linear and quadratic part (3,) at one token, none of them below 0."""
    return nnls(_terms(tokens) / ms[:, None], np.ones(len(ms)))


def _terms(tokens: Array) -> Array:
    return np.stack([np.ones_like(tokens), tokens, tokens**2], axis=1)


def _quadratic(tokens: Array, ms: Array) -> Callable[[Array], Array]:
    parts = _parts(tokens, ms)
    return lambda others: _terms(others) @ parts


def _exponential(tokens: Array, ms: Array) -> Callable[[Array], Array]:
    rate, level = np.polyfit(tokens, np.log(ms), 1)
    return lambda others: np.exp(level + rate * others)


def _left_out(law: Law, tokens: Array, ms: Array) -> float:
    """Mean relative error about each latency, of a law fitted to the others."""
    off = [
        abs(law(np.delete(tokens, i), np.delete(ms, i))(tokens[[i]])[0] / ms[i] - 1)
        for i in range(len(ms))
    ]
    return float(np.mean(off))
