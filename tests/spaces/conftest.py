"""Every preset, some of its candidates, and its supernet, each made once."""

import pytest
import torch

from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.supernet import Supernet

from ..shared import presets
from .helpers import images, randomize

torch.set_num_threads(1)


@pytest.fixture(scope="session", params=presets())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SearchSpace.from_yaml(request.param)


@pytest.fixture(scope="session")
def candidates(space: SearchSpace) -> list[Candidate]:
    """The two extremes and some random candidates."""
    return [space.largest(), space.smallest(), *space.sample(8, seed=0)]


@pytest.fixture(scope="session")
def supernet(space: SearchSpace) -> Supernet:
    """Weights of which none is at its initial value, so that no term is silently zero."""
    supernet = Supernet(space)
    randomize(supernet.state_dict())
    return supernet


@pytest.fixture(scope="session")
def logits(supernet: Supernet, candidates: list[Candidate]) -> list[torch.Tensor]:
    """What each candidate says of an image on the shared weights."""
    with torch.no_grad():
        return [supernet(candidate, images(candidate, 1)) for candidate in candidates]
