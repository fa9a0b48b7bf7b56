"""Quantization after training: which ranges, how many images, and which corrections help.

`python -m tests.bench quantization` trains a network on digits for a minute; with VITPARETO_RUN it
takes the most accurate model and the images of a run folder. Every accuracy is that of the file
that ONNX Runtime executes, on the validation split, and every error is that of its logits relative
to the network in float. Calibration images are drawn from the train split.
"""

import os
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.quantize import apply_recipes
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.runtimes import open_runtime, run_all
from vitpareto.search.compress import calibrate, compensated, deliverable
from vitpareto.search.compress.deliver import CORRECTIONS
from vitpareto.search.compress.observe import RANGES
from vitpareto.search.compress.ranges import Choose, closest
from vitpareto.search.data.dataset import Data, Split, resized
from vitpareto.search.experiments.ladder import everywhere
from vitpareto.spaces import Candidate, Policy
from vitpareto.spaces.networks import Network

from ._row import HEADER, row

DEVICE = Device.load("cpu-1t")
STATIC = ("float", "static8", "static4")
DYNAMIC = ("float", "dynamic8", "dynamic4")
DRAWS = 5
IMAGES = 64  # of a calibration, as `export.calibration_images`
MOST = 2000  # validation images
COMBINATIONS = ((), *((name,) for name in CORRECTIONS), ("repq", "bias"), CORRECTIONS)
DYNAMIC_COMBINATIONS = ((), ("equalize",), ("bias",))  # RepQ is for fixed ranges alone
POLICIES = {"8 bits": Policy(8, 8), "4-bit weights": Policy(4, 8), "3-bit weights": Policy(3, 8)}


def main() -> None:
    """Print the tables of one network."""
    torch.set_num_threads(1)
    if folder := os.environ.get("VITPARETO_RUN"):
        tables(*of_a_run(Path(folder)))
    else:
        tables(*of_digits())


def of_digits() -> tuple[Network, Data]:
    """A network of the demo's space, trained on labels for a minute."""
    from tests.search.made import trained
    from vitpareto.search.config import DataConfig
    from vitpareto.search.data.loading import load_data
    from vitpareto.spaces import SearchSpace

    chosen = Candidate.uncompressed(SearchSpace.from_yaml("digits").largest().architecture)
    data = load_data(DataConfig(), chosen.architecture.input_size)
    return trained(chosen, data), data


def of_a_run(folder: Path) -> tuple[Network, Data]:
    """The most accurate network that a run delivered, without its compression, and its images."""
    from vitpareto.search.config import load_config
    from vitpareto.search.data.loading import load_data
    from vitpareto.search.delivery.artifact import load_network
    from vitpareto.search.delivery.manifest import manifests

    best = max(manifests(folder / "pareto"), key=lambda m: m.trained.accuracy)
    network = load_network(folder / "pareto" / best.key)
    config = load_config(folder / "config.yaml")
    return network, load_data(config.data, network.architecture.input_size)


def tables(network: Network, data: Data) -> None:
    """Print all tables of a network.

    Args:
        network: trained, in float.
        data: its images.
    """
    bench = Quantized(network.eval(), data)
    print(HEADER)
    row("in float", f"{bench.exact:.2%}", "", f"{len(bench.split)} images")
    choices: dict[str, Choose] = {n: partial(_named, n) for n in RANGES}
    choices["chosen for each layer"] = closest
    print(f"\nranges of activations, 8 bits, {IMAGES} images, {DRAWS} draws")
    for name, choose in choices.items():
        bench.print(f"  {name}", Policy(8, 8), STATIC, IMAGES, choose)
    share = round(0.01 * len(data.split("train")))
    print(f"\nnumber of calibration images, chosen ranges, {DRAWS} draws; 1% are {share}")
    for count in sorted({32, 64, 128, 256, share}):
        bench.print(f"  {count} images", Policy(8, 8), STATIC, count)
    print(f"\ncorrections, {IMAGES} images, {DRAWS} draws")
    for kind, recipes in (("fixed ranges", STATIC), ("ranges of each image", DYNAMIC)):
        for bits, policy in POLICIES.items():
            for by in COMBINATIONS if recipes is STATIC else DYNAMIC_COMBINATIONS:
                what = " and ".join(by) or "none"
                bench.print(f"  {bits}, {kind}: {what}", policy, recipes, IMAGES, by=by)


def _named(name: str, readers: object) -> str:
    return name


class Quantized:
    """A network, quantized again and again.

    Args:
        network: trained, in float.
        data: its images.
    """

    def __init__(self, network: Network, data: Data) -> None:
        self.network, self.train = network, data.split("train").images
        whole, size = data.split("validation"), network.architecture.input_size
        self.size = size
        self.split = Split(resized(whole.images[:MOST], size), whole.labels[:MOST])
        with torch.no_grad():
            self.logits = torch.cat([network(x) for x in self.split.images.split(256)])
        self.exact = self._right(self.logits)
        self._plain: dict[Policy, tuple[Network, Any]] = {}

    def print(
        self,
        what: str,
        policy: Policy,
        recipes: Sequence[str],
        count: int,
        choose: Choose = closest,
        by: Collection[str] = (),
    ) -> None:
        """Print mean and standard deviation of accuracy and error over the draws."""
        found = np.array(
            [self._once(policy, recipes, self._drawn(count, s), choose, by) for s in range(DRAWS)]
        )
        (right, error), (right_sd, error_sd) = found.mean(0), found.std(0, ddof=1)
        noise = f"sd {right_sd:.2%}; error {error:.4f}, sd {error_sd:.4f}"
        row(what, f"{right:.2%}", f"{right - self.exact:+.2%}", noise)

    def _drawn(self, count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        picked = torch.randperm(len(self.train), generator=generator)[:count]
        return resized(self.train[picked], self.size)

    def _once(
        self,
        policy: Policy,
        recipes: Sequence[str],
        images: Tensor,
        choose: Choose,
        by: Collection[str],
    ) -> tuple[float, float]:
        """Accuracy, and relative error of logits, of the file that is executed."""
        candidate = everywhere(Candidate.uncompressed(self.network.architecture), policy)
        if not by and policy in self._plain:
            ready, graph = self._plain[policy]
        else:
            plain = deliverable(self.network, candidate)
            ready = compensated(plain, candidate, recipes, images, by)
            graph = to_onnx(ready, (1, *images.shape[1:]))
            if not by:
                self._plain[policy] = ready, graph
        seen = calibrate(ready, ready.state_dict(), candidate, images, recipes, choose)
        model = apply_recipes(graph, candidate, recipes, seen.limits)
        compiled = open_runtime(DEVICE).compile(model)
        logits = torch.from_numpy(run_all(compiled, self.split.images.numpy(), 1).copy())
        error = (logits - self.logits).norm() / self.logits.norm()
        return self._right(logits), error.item()

    def _right(self, logits: Tensor) -> float:
        return (logits.argmax(1) == self.split.labels).double().mean().item()


if __name__ == "__main__":
    main()
