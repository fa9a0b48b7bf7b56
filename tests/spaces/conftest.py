"""Every preset, some of its candidates, and its supernet, each made once."""

from copy import copy
from functools import cache

import pytest
import torch
from torch import nn

from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.supernet import Supernet

from ..shared import presets
from .helpers import images, randomize

torch.set_num_threads(1)


# Kept when tests come in an order that mixes presets, and pytest makes fixtures again.
preset = cache(SearchSpace.from_yaml)


@cache
def made(name: str) -> Supernet:
    return Supernet(preset(name))


@pytest.fixture(scope="session", params=presets())
def preset_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def space(preset_name: str) -> SearchSpace:
    return preset(preset_name)


@pytest.fixture(scope="session")
def candidates(space: SearchSpace) -> list[Candidate]:
    """The two extremes and some random candidates."""
    return [space.largest(), space.smallest(), *space.sample(4, seed=0)]


@pytest.fixture(scope="session")
def initial(preset_name: str) -> Supernet:
    """With the weights that it is made with; copy it before changing anything in it."""
    return made(preset_name)


@pytest.fixture(scope="session")
def supernet(initial: Supernet) -> Supernet:
    """Weights of which none is at its initial value, so that no term is silently zero."""
    supernet = copy(initial)
    supernet.params = {n: nn.Parameter(p.detach().clone()) for n, p in initial.params.items()}
    supernet.buffers = {n: value.clone() for n, value in initial.buffers.items()}
    randomize(supernet.state_dict())
    return supernet


@pytest.fixture(scope="session")
def logits(supernet: Supernet, candidates: list[Candidate]) -> list[torch.Tensor]:
    """What each candidate says of an image on the shared weights."""
    with torch.no_grad():
        return [supernet(candidate, images(candidate, 1)) for candidate in candidates]
