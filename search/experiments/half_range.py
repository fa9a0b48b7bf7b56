"""Half range: whether a delivered model could compute in float16, seen on its run's images."""

from __future__ import annotations

from ...cost_models.graphs.to_onnx import to_onnx
from ...cost_models.profile.half_range import HalfRange, half_ranges
from ..compress import deliverable
from ..data.dataset import resized
from ..delivery.artifact import load_network, read_candidate
from ..run.assets import Run

IMAGES, BATCH = 32, 4  # of the validation split; few at a time, as all activations are kept


def ranges_in_half(run: Run, key: str) -> list[HalfRange]:
    """Ranges of the weights and activations of a delivered model, before any rounding.

    Args:
        run: whose images it sees.
        key: of the model.

    Raises:
        RunError: a file is missing or damaged.
    """
    folder = run.folder.pareto / key
    candidate = read_candidate(folder)
    network = deliverable(load_network(folder), candidate).eval()
    images = run.data.split("validation").some(IMAGES).images
    images = resized(images, candidate.architecture.input_size)
    batch = min(BATCH, len(images))
    graph = to_onnx(network, (batch, *images.shape[1:]))
    whole = images[: len(images) // batch * batch]
    whole_network = candidate.without_exits()
    return half_ranges(graph, whole_network, (some.numpy() for some in whole.split(batch)))
