"""What the search sees of a candidate is what its artifact does."""

import pytest
import torch

from tests.search.compress.helpers import images, random_network
from vitpareto.cost_models import Device
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.search.delivery.build import Build
from vitpareto.search.delivery.formats import format_of
from vitpareto.search.scoring.inherited import batch_statistics
from vitpareto.spaces import Candidate, SearchSpace

from ...shared import slow_but
from .parity import HEADER, pairs

pytestmark = pytest.mark.onnx
PRESETS = ("digits", "cifar", "mobile_hybrid", "deit_tiny")


@pytest.mark.parametrize("preset", slow_but(("digits", "mobile_hybrid"), PRESETS))
@pytest.mark.parametrize("count", [1, pytest.param(25, marks=pytest.mark.slow)])
def test_every_float32_export_gives_torchs_logits(preset: str, count: int) -> None:
    """Random weights, with the batch statistics that go with them: the folded network in ONNX
    against the plain one in torch.
    """
    device = Device.load("cpu-1t")
    for candidate in SearchSpace.from_yaml(preset).sample(count, seed=count):
        float32 = Candidate.uncompressed(candidate.architecture)
        network, x = random_network(float32.architecture), images(float32.architecture, 4)
        state = network.state_dict()
        statistics = batch_statistics(network, state, float32, images(float32.architecture, 16, 1))
        network.load_state_dict(state | statistics)
        network.eval()
        build = Build(float32, network, device.recipes, x)
        content = format_of(device).encode(build, device, None)
        compiled = open_runtime(device).compile(content)
        found = torch.cat([torch.from_numpy(compiled.run(one.numpy())) for one in x.split(1)])
        with torch.inference_mode():
            wanted = network(x)
        assert (found - wanted).abs().max() <= 1e-4 * max(1, wanted.abs().max()), candidate.key
        assert found.argmax(1).equal(wanted.argmax(1)), candidate.key


@pytest.mark.slow
def test_search_time_accuracy_is_that_of_the_artifact() -> None:
    found = pairs(30)
    table = "\n".join([HEADER, *map(str, found)])
    print(table)  # noqa: T201 - what `pytest -s` is for
    assert sum(abs(pair.seen - pair.found) for pair in found) / len(found) <= 0.003, table
    exact = [pair for pair in found if pair.exact]
    assert 0 < len(exact) < len(found)
    assert all(pair.distance < 1e-4 and pair.agreement >= 0.999 for pair in exact), table
