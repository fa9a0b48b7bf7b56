import pytest

from vitpareto.cost_models import workload
from vitpareto.search.scoring.predicted_costs import Counts
from vitpareto.spaces import SearchSpace


@pytest.mark.parametrize("preset", ["digits", "deit_tiny", "mobile_hybrid"])
def test_counting_many_at_once_is_exact(preset: str) -> None:
    space, counts = SearchSpace.from_yaml(preset), Counts()
    for seed in range(2):  # the second time most of their sub-blocks are known
        candidates = [*space.sample(30, seed), space.largest(), space.smallest()]
        found = counts(candidates).tolist()
        works = [workload(candidate) for candidate in candidates]
        assert found == [[work.macs, work.params] for work in works]
    assert counts([]).shape == (0, 2)
