"""What the search sees of a candidate is what its artifact does."""

import pytest
import torch

from vitpareto.cost_models import Device
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.search.compress import deliverable
from vitpareto.search.config import DataConfig, SupernetConfig
from vitpareto.search.data import load_data, resized
from vitpareto.search.distill import train_supernet
from vitpareto.search.evaluate import Evaluator, accuracy, batch_statistics
from vitpareto.search.export import calibration, expected_logits, to_graph
from vitpareto.search.gate import computes_with_integers
from vitpareto.search.rollback import policies
from vitpareto.search.teacher import Lessons
from vitpareto.spaces import Candidate, Policy, SearchSpace

pytestmark = pytest.mark.onnx
RECIPES = ("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4")


@pytest.mark.slow
def test_search_time_accuracy_is_that_of_the_artifact() -> None:
    space, device = SearchSpace.from_yaml("digits"), Device.load("cpu-1t")
    data = load_data(DataConfig(), space.largest().architecture.input_size)
    train, search = data.split("train"), data.split("search")
    labels = torch.nn.functional.one_hot(data.train_labels, 10).float() * 10
    lessons = Lessons.of(data, labels[None])
    supernet = train_supernet(space, lessons, SupernetConfig(epochs=4, lr=2e-3), 0)
    evaluator = Evaluator(supernet, search, train, RECIPES)
    rows: list[tuple[str, float, float]] = []
    for candidate in compressed(space, 30):
        size = candidate.architecture.input_size
        network = supernet.extract(candidate)
        state = network.state_dict()
        state |= batch_statistics(network, state, candidate, resized(train.images[:512], size))
        network.load_state_dict(state)
        images = calibration(data, candidate, 64, RECIPES)
        delivered = deliverable(network.eval(), candidate)
        graph = to_graph(candidate, delivered, RECIPES, 1, images.numpy())
        compiled = open_runtime(device).compile(graph)
        inputs = resized(search.images, size).numpy()
        logits = torch.cat([torch.from_numpy(compiled.run(x[None])) for x in inputs])
        expected = expected_logits(candidate, network, search, RECIPES, images)
        agreement = (logits.argmax(1) == expected.argmax(1)).double().mean().item()
        if not computes_with_integers(candidate):
            assert (logits - expected).abs().max() < 1e-4 * max(1, expected.abs().max())
            assert agreement >= 0.999
        seen = evaluator(candidate)["accuracy"]
        found = accuracy(logits, search.labels)["accuracy"]
        rows.append((candidate.key, seen, found))
    error = sum(abs(seen - found) for _, seen, found in rows) / len(rows)
    assert error <= 0.003, "\n".join(map(str, rows))


def compressed(space: SearchSpace, count: int) -> list[Candidate]:
    """Candidates in which something is rounded, cut or left out."""
    found = [c for c in space.sample(3 * count, seed=11) if set(policies(c).values()) != {Policy()}]
    return found[:count]
