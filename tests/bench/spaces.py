"""Speed of spaces, and exports of random candidates."""

import subprocess
import sys
import time
from collections.abc import Callable

import torch

from tests.spaces.helpers import difference, images, randomize, run_onnx, to_onnx
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.space import PRESETS
from vitpareto.spaces.supernet import Supernet, blueprint

from ._row import HEADER, row

EXPORTED = 200  # candidates a preset


def main() -> None:
    """Print one table: name, figure, bar."""
    torch.set_num_threads(1)
    print(HEADER)
    row("vitpareto --help", f"{help_s():.2f} s", "0.30 s")
    spaces = [SearchSpace.from_yaml(path.stem) for path in sorted(PRESETS.glob("*.yaml"))]
    for space in spaces:
        rate = samples_per_s(space)
        row(f"{space.name}: sample, canonicalize and key", f"{rate:,.0f} /s", "5,000 /s")
    for space in spaces:
        row(f"{space.name}: size of {space.size:.2e}", f"{size_s(space):.3f} s", "")
    for space in spaces:
        bar = "15.0 ms" if space.name == "deit_tiny" else ""
        row(f"{space.name}: instantiate on meta and inherit", f"{inherit_ms(space):.1f} ms", bar)
    for space in spaces:
        worst = export(space)
        row(f"{space.name}: {EXPORTED} exports, ONNX Runtime differs by", f"{worst:.1e}", "1.0e-04")


def best_s(
    action: Callable[[], object], repeats: int = 5, clock: Callable[[], float] = time.process_time
) -> float:
    """Time of the fastest repeat, on one core: others share the machine."""
    times: list[float] = []
    for _ in range(repeats):
        start = clock()
        action()
        times.append(clock() - start)
    return min(times)


def help_s() -> float:
    command = [sys.executable, "-c", "from vitpareto.search.cli import main; main()", "--help"]
    return best_s(
        lambda: subprocess.run(command, capture_output=True, check=True), clock=time.perf_counter
    )


def samples_per_s(space: SearchSpace, n: int = 2000) -> float:
    seeds = iter(range(100))  # other candidates in every repeat
    return n / best_s(lambda: [c.key for c in space.sample(n, seed=next(seeds))])


def size_s(space: SearchSpace) -> float:
    fresh = [SearchSpace(space.spec) for _ in range(3)]
    return best_s(lambda: fresh.pop().size, repeats=3)


def inherit_ms(space: SearchSpace, n: int = 20) -> float:
    """Distinct candidates, none of which was built before."""
    supernet, candidates = Supernet(space), space.sample(n, seed=1)

    def build_all() -> None:
        blueprint.cache_clear()
        for candidate in candidates:
            supernet.inherit(candidate)

    return best_s(build_all) / n * 1e3


def export(space: SearchSpace) -> float:
    """Largest difference of logits between torch and ONNX Runtime."""
    supernet = Supernet(space)
    randomize(supernet.state_dict())
    worst = 0.0
    for candidate in space.sample(EXPORTED, seed=0):
        network, x = supernet.extract(candidate), images(candidate, 1)
        with torch.no_grad():
            worst = max(worst, difference(run_onnx(to_onnx(network, x), x)[0], network(x)))
    return worst
