"""What choices explain, against textbook formulas."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from vitpareto.search.report.choices import explained, short_name


def one_hot(values: np.ndarray) -> np.ndarray:
    return (values[:, None] == np.unique(values)).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_explained_is_the_adjusted_share_of_a_linear_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 200))
    drawn = rng.integers(0, 4, n)
    target = drawn * rng.normal() + rng.normal(size=n)
    table = one_hot(drawn)
    r2 = LinearRegression().fit(table[:, 1:], target).score(table[:, 1:], target)
    free = n - 1 - (table.shape[1] - 1)
    assert explained(table, target) == pytest.approx(max(0, 1 - (1 - r2) * (n - 1) / free))


def test_what_decides_everything_and_what_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 3, 400)
    assert explained(one_hot(drawn), 5.0 * drawn) == pytest.approx(1)
    shares = [explained(one_hot(rng.integers(0, 3, 400)), 1.0 * drawn) for _ in range(50)]
    assert np.mean(shares) < 0.01
    assert explained(one_hot(drawn), np.ones(400)) == 0
    assert explained(np.ones((5, 1)), np.arange(5.0)) == 0


def test_names() -> None:
    assert short_name("patch_size", True) == "patch_size"
    assert short_name("stages.2.groups.1.weight_bits", True) == "stage 3: weight_bits"
