"""Quantization: which scales, ranges and corrections, how many images, and trained with it or not.

`python -m tests.bench quantization` trains a network on digits for a minute; with VITPARETO_RUN it
takes the most accurate model and the images of a run folder. Every accuracy is that of the file
that ONNX Runtime executes, on the validation split, and every error is that of its logits relative
to the network in float. Calibration images are drawn from the train split. Trainings with rounding
(QAT) start from the network in float and learn from its answers; beside them is rounding after a
training (PTQ) of as many steps in float. `--tables trainings --bits 4 --seeds 2` is one part of it.
"""

from __future__ import annotations

import copy
import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
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
from vitpareto.search.config import FinishConfig
from vitpareto.search.data.dataset import Data, Split, resized
from vitpareto.search.training.finetune import Finalist, FineTuning, train_alone
from vitpareto.search.training.teacher import Lessons
from vitpareto.spaces import Candidate, Policy
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.networks import Network

from ..shared import everywhere
from ._row import HEADER, row

DEVICE = Device.load("cpu-1t")
STATIC = ("float", "static8", "static4")
DYNAMIC = ("float", "dynamic8", "dynamic4")
DRAWS = 5
IMAGES = 64  # of a calibration, as `export.calibration_images`
MOST = 2000  # validation images
COMBINATIONS = ((), *((name,) for name in CORRECTIONS), ("repq", "bias"), CORRECTIONS)
DYNAMIC_COMBINATIONS = ((), ("equalize",), ("bias",))  # RepQ is for fixed ranges alone
TENSOR = Policy(8, 8, weight_scales="tensor")
SCALES = (
    ("8 bits, fixed ranges: a scale for each channel", Policy(8, 8), "static8"),
    ("8 bits, fixed ranges with zero in their middle", Policy(8, 8), "symmetric8"),
    ("8 bits, fixed ranges: a scale for each tensor", TENSOR, "static8_tensor"),
    ("8 bits, ranges of each image: a scale for each channel", Policy(8, 8), "dynamic8"),
    ("8 bits, ranges of each image: a scale for each tensor", TENSOR, "dynamic8_tensor"),
    (
        "4-bit weights: a scale for each tensor",
        Policy(4, 8, weight_scales="tensor"),
        "dynamic4_tensor",
    ),
    ("4-bit weights: a scale for each channel", Policy(4, 8, weight_scales="channel"), "dynamic4"),
    *(
        (f"4-bit weights: a scale for {n} inputs", Policy(4, 8, weight_scales=f"block{n}"), name)
        for n, name in ((128, "blocks4a8_128"), (64, "blocks4a8_64"), (32, "blocks4a8"))
    ),
)
BITS, SEEDS, PASSES = (8, 6, 4, 3), 3, 10
POLICIES = {"8 bits": Policy(8, 8), "4-bit weights": Policy(4, 8), "3-bit weights": Policy(3, 8)}


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables of one network."""
    asked = _options(arguments)
    torch.set_num_threads(1)
    folder = os.environ.get("VITPARETO_RUN")
    network, data = of_a_run(Path(folder)) if folder else of_digits()
    bench = Quantized(network.eval(), data)
    print(HEADER)
    row("in float", f"{bench.exact:.2%}", "", f"{len(bench.split)} images")
    for name in asked.tables:
        TABLES[name](bench, data, asked)


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(
        "python -m tests.bench quantization",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--bits", nargs="+", type=int, default=BITS, help="that are trained with")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each")
    parser.add_argument("--passes", type=int, default=PASSES, help="of a training")
    return parser.parse_args(arguments)


def of_digits() -> tuple[Network, Data]:
    """A network of the demo's space with three blocks, trained on labels for a minute."""
    from tests.search.made import trained
    from vitpareto.search.config import DataConfig
    from vitpareto.search.data.loading import load_data
    from vitpareto.spaces import SearchSpace

    space = SearchSpace.from_yaml("digits")
    chosen = Candidate.uncompressed(space.candidate({"stages.0.depth": 3}).architecture)
    data = load_data(DataConfig(), chosen.architecture.input_size)
    return trained(chosen, data, lr=2e-3), data


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


def scales(bench: Quantized, data: Data, asked: Namespace) -> None:
    """What shares a scale, with bytes."""
    print(f"\nwhat shares a scale, {IMAGES} images, {DRAWS} draws; bytes are those of the file")
    for name, policy, recipe in SCALES:
        bench.print(f"  {name}", policy, ("float", recipe), IMAGES)


def ranges(bench: Quantized, data: Data, asked: Namespace) -> None:
    """How ranges of activations are found."""
    choices: dict[str, Choose] = {n: partial(_named, n) for n in RANGES}
    choices["chosen for each layer"] = closest
    print(f"\nranges of activations, 8 bits, {IMAGES} images, {DRAWS} draws")
    for name, choose in choices.items():
        bench.print(f"  {name}", Policy(8, 8), STATIC, IMAGES, choose)


def counts(bench: Quantized, data: Data, asked: Namespace) -> None:
    """Number of calibration images."""
    share = round(0.01 * len(data.split("train")))
    print(f"\nnumber of calibration images, chosen ranges, {DRAWS} draws; 1% are {share}")
    for count in sorted({32, 64, 128, 256, share}):
        bench.print(f"  {count} images", Policy(8, 8), STATIC, count)


def corrections(bench: Quantized, data: Data, asked: Namespace) -> None:
    """Corrections of rounding, alone and together."""
    print(f"\ncorrections, {IMAGES} images, {DRAWS} draws")
    for kind, recipes in (("fixed ranges", STATIC), ("ranges of each image", DYNAMIC)):
        for bits, policy in POLICIES.items():
            for by in COMBINATIONS if recipes is STATIC else DYNAMIC_COMBINATIONS:
                what = " and ".join(by) or "none"
                bench.print(f"  {bits}, {kind}: {what}", policy, recipes, IMAGES, by=by)


def trainings(bench: Quantized, data: Data, asked: Namespace) -> None:
    """Rounding after a training, and in it."""
    print(
        f"\ntrained with rounding, {asked.passes} passes, {asked.seeds} seeds; "
        "PTQ with corrected biases"
    )
    bench.trainings(data, asked.bits, asked.seeds, asked.passes)


TABLES = {
    "scales": scales,
    "ranges": ranges,
    "counts": counts,
    "corrections": corrections,
    "trainings": trainings,
}


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
        whole, size = data.split("validation").some(MOST), network.architecture.input_size
        self.size = size
        self.split = Split(resized(whole.images, size), whole.labels)
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
        (right, error, kilobytes), (right_sd, error_sd, _) = found.mean(0), found.std(0, ddof=1)
        noise = f"sd {right_sd:.2%}; error {error:.4f}, sd {error_sd:.4f}; {kilobytes:.1f} kB"
        row(what, f"{right:.2%}", f"{right - self.exact:+.2%}", noise)

    def trainings(self, data: Data, bits: Sequence[int], seeds: int, passes: int) -> None:
        """Print accuracy and seconds of rounding after training, at once, and step by step."""
        lessons = Lessons.of(data, self._answers(data))
        validation, config = data.split("validation"), FinishConfig(epochs=passes)
        tunings = [FineTuning(lessons, validation, config, seed) for seed in range(seeds)]
        plain = [self._trained(Policy(), tuning) for tuning in tunings]
        for each in bits:
            policy = Policy(each, 8)
            self._row(f"{each}-bit weights, PTQ", policy, plain, ("bias",))
            for way in ("QAT at once", "QAT step by step"):
                trained: list[tuple[Network, float]] = []
                for tuning in tunings:
                    try:
                        trained.append(self._trained(policy, tuning, way == "QAT at once"))
                    except RunError as error:
                        print(f"  {each}-bit weights, {way}, seed {tuning.seed}: {error}")
                self._row(f"{each}-bit weights, {way}", policy, trained)

    def _row(
        self,
        what: str,
        policy: Policy,
        trained: Sequence[tuple[Network, float]],
        by: Collection[str] = (),
    ) -> None:
        """Print accuracy and seconds of networks that differ in their seeds alone."""
        if not trained:
            return
        rights = np.array(
            [
                self._once(policy, DYNAMIC, self._drawn(IMAGES, seed), closest, by, network)[0]
                for seed, (network, _) in enumerate(trained)
            ]
        )
        spread = f"sd {rights.std(ddof=1):.2%}; " if len(rights) > 1 else ""
        seconds = np.mean([took for _, took in trained])
        gain = f"{rights.mean() - self.exact:+.2%}"
        row(f"  {what}", f"{rights.mean():.2%}", gain, f"{spread}{seconds:.1f} s")

    def _answers(self, data: Data) -> Tensor:
        """Logits for two views of every train image (2, N, K)."""
        views, order = data.views(), torch.arange(len(data.train_labels)).split(256)
        with torch.no_grad():
            return torch.stack(
                [
                    torch.cat([self.network(x) for x in views.batches(view, order)])
                    for view in range(2)
                ]
            )

    def _trained(
        self, policy: Policy, tuning: FineTuning, direct: bool = False
    ) -> tuple[Network, float]:
        """A copy of the network trained on, and the seconds it took."""
        candidate = everywhere(Candidate.uncompressed(self.network.architecture), policy)
        with TemporaryDirectory() as folder:
            kept = Path(folder) / "training.safetensors"
            finalist = Finalist(candidate, copy.deepcopy(self.network), kept, direct=direct)
            network = train_alone(finalist, tuning)
            return network, tuning.seconds(finalist)

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
        network: Network | None = None,
    ) -> tuple[float, float, float]:
        """Accuracy, relative error of logits, and kilobytes of the file that is executed."""
        candidate = everywhere(Candidate.uncompressed(self.network.architecture), policy)
        if network is None and not by and policy in self._plain:
            ready, graph = self._plain[policy]
        else:
            plain = deliverable(network or self.network, candidate)
            ready = compensated(plain, candidate, recipes, images, by)
            graph = to_onnx(ready, (1, *images.shape[1:]))
            if network is None and not by:
                self._plain[policy] = ready, graph
        seen = calibrate(ready, ready.state_dict(), candidate, images, recipes, choose)
        model = apply_recipes(graph, candidate, recipes, seen.limits)
        compiled = open_runtime(DEVICE).compile(model)
        logits = torch.from_numpy(run_all(compiled, self.split.images.numpy(), 1).copy())
        error = (logits - self.logits).norm() / self.logits.norm()
        return self._right(logits), error.item(), model.ByteSize() / 1e3

    def _right(self, logits: Tensor) -> float:
        return (logits.argmax(1) == self.split.labels).double().mean().item()


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
