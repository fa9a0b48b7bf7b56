"""A library that is made on a Ray cluster of which a node is lost on the way."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from vitpareto.search.executors import LocalExecutor, RayExecutor
from vitpareto.search.library.files import checkpoint_of, load, read_known
from vitpareto.search.library.making import make_library
from vitpareto.search.library.start import Start
from vitpareto.spaces import SearchSpace

from ..raylets import cluster
from .test_making import equal

__all__ = ["cluster"]

STEPS = 400  # some seconds for each option


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_lost_node_takes_nothing_with_it(
    start: Start, space: SearchSpace, tmp_path: Path, cluster: Any
) -> None:
    import ray

    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    path = tmp_path / "library.safetensors"
    made_by_then: list[int] = []

    def lose_a_node() -> None:
        while not path.exists() or len(read_known(path).dropped[0]) < 2:
            time.sleep(0.05)
        time.sleep(1)  # both nodes train options now, which nothing has saved
        made_by_then.append(len(read_known(path).explained))
        cluster.remove_node(nodes[0], allow_graceful=False)

    thread = threading.Thread(target=lose_a_node)
    thread.start()
    with RayExecutor(workers=2, threads=1) as executor:
        library = make_library(start, space, executor, path, STEPS)
        thread.join()
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    assert nodes[0].node_id not in alive and nodes[1].node_id in alive
    assert len(library.options) == 6 and made_by_then[0] < 6
    assert equal(library, load(checkpoint_of(path, start), start))
    local = make_library(start, space, LocalExecutor(), tmp_path / "local.safetensors", STEPS)
    assert equal(library, local)
