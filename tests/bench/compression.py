"""Compression: one trained network in every way, and by the quantizers of others, in one table.

`python -m tests.bench compression` trains a ViT on digits, makes artifacts of it by the product's
own means, hands the same network in float to the quantizers of ONNX Runtime, NNCF and Neural
Compressor (as far as they are installed here, or where the interpreters of --python are), and
times all files in turn in ONNX Runtime on one thread: a quarter of an hour of one core. `--train
PATH` takes the images of PATH/CLASS, or of a table, and `--start MODEL` a network that is trained
already and knows their classes. What a quantizer cannot make, or ONNX Runtime not run, is a row
that says why.

The network in float and each one with ranks, zeros or cuts are trained from one start for the same
number of steps. Numbers are rounded after that (PTQ), with or without corrected norms and biases;
where that loses more than 0.2 points on validation images, a network is trained with the rounding,
too (QAT), and taken if it is better by more than chance. Bytes are those of the file on disk. Which
images a model is right on is asked of ONNX Runtime, image by image, on test images that nothing
looked at before. What is done is kept in the folder --out, where a run that was stopped goes on.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from vitpareto.cost_models.runtimes import open_runtime, run_all
from vitpareto.cost_models.standalone.runner import CLOCKS
from vitpareto.cost_models.standalone.timing import NETWORK_HEAT_MS, measure_session
from vitpareto.search.compress.importance import allot, prune, taylor
from vitpareto.search.config import AdaptConfig, DataConfig, FinishConfig, StartConfig
from vitpareto.search.data.dataset import Data, Split
from vitpareto.search.data.loading import load_data
from vitpareto.search.delivery.build import Build
from vitpareto.search.delivery.export import build_for, export_trained
from vitpareto.search.delivery.preprocessing import Preprocessing
from vitpareto.search.run.ways import simplest, trained_as
from vitpareto.search.start.derive import derive_space
from vitpareto.search.start.fitted import Start, fit, open_start
from vitpareto.search.store.atomic_files import read_json, write_atomic, write_json
from vitpareto.search.training.finetune import Finalist, FineTuning, start_network, train_alone
from vitpareto.search.training.forward import predict
from vitpareto.search.training.supernet import SCORED
from vitpareto.search.training.teacher import make_lessons
from vitpareto.spaces import Architecture, Candidate
from vitpareto.spaces.errors import CostError, RunError, last_line
from vitpareto.spaces.networks import Network

from . import _quantizers
from ._compression_rows import OURS, Failed, Row, names, table
from ._compression_ways import REFERENCE, WAYS, Way
from ._equally_fast import DEVICE, FAMILIES, SIZE, VIT_WIDTH, trained

SHARES = {"search": 0.02, "validation": 0.2, "test": 0.3}  # nothing is searched
VALIDATION = 2000  # images that choose between PTQ and QAT
LOSS = 0.002  # of them, by rounding, from which on a training with it is tried
CALIBRATION, VIEWS, LR, ROUNDS = 64, 2, 5e-4, 25
MODEL = "model.onnx"
ABOUT = ("train", "start", "steps", "tune", "images")  # what a folder is made with


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table, and the smallest and fastest models that lose little."""
    asked = options(arguments)
    torch.set_num_threads(1)
    maker = Maker(asked)
    made = [*map(maker.row, WAYS), *maker.others()]
    rows = [one for one in made if isinstance(one, Row)]
    failed = [one for one in made if isinstance(one, Failed)]
    drift = time_in_turn(rows, maker.test.images[:1].numpy())
    base = asked.start or f"{asked.steps} steps"
    text = [
        f"{maker.data.name}: {len(maker.data.train_labels):,} train images, {base} and "
        f"{asked.tune} steps more, {len(maker.test):,} test images; {DEVICE.name}, {ROUNDS} rounds "
        f"in turn, whose speed varied by {drift:.0%}; intervals of 95%, of latencies the 10th to "
        "90th percentile\n",
        table(rows, failed),
        *(line for points in (0.5, 1.0) for line in ("", *names(rows, points))),
    ]
    print("\n".join(text))
    write_atomic(asked.out / "compression.md", "\n".join(text) + "\n")


def options(arguments: Sequence[str]) -> Namespace:
    """What is asked on the command line."""
    parser = ArgumentParser(
        "python -m tests.bench compression",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", default="", metavar="PATH", help="images, in place of digits")
    help_ = "trained network, as start.model of a run names one, in place of one from scratch"
    parser.add_argument("--start", default="", metavar="MODEL", help=help_)
    parser.add_argument("--steps", type=int, default=1000, help="of 64 images, from scratch")
    parser.add_argument("--tune", type=int, default=150, help="steps of each network after those")
    parser.add_argument("--images", type=int, default=4000, help="test images, at most")
    parser.add_argument(
        "--python",
        nargs="*",
        default=[],
        metavar="FILE",
        help="interpreters of environments in which other quantizers are installed",
    )
    out = Path("runs/compression")
    parser.add_argument("--out", type=Path, default=out, help="folder to write to")
    return parser.parse_args(arguments)


class Maker:
    """Makes models of one network, and keeps them in a folder.

    Args:
        asked: see `options`.

    Raises:
        RunError: the folder holds models of another network, or the start does not know the classes
            of the images.
    """

    def __init__(self, asked: Namespace) -> None:
        self.out, self._asked = asked.out, asked
        about = {name: getattr(asked, name) for name in ABOUT}
        kept = self.out / "about.json"
        if kept.exists() and read_json(kept) != about:
            raise RunError(f"{kept}: made with {read_json(kept)}, not {about}; name another --out")
        write_json(kept, about)
        own = DataConfig(root=asked.train, flip=True, **SHARES) if asked.train else None
        start = open_start(_as_it_is(asked.start)) if asked.start else None
        size = start.network.architecture.input_size if start else SIZE
        self.data: Data = load_data(own or DataConfig(**SHARES), size)
        self._given = _fitted(start, self.data) if start else None
        given = self._given.architecture if self._given else None
        self.plain = Candidate.uncompressed(given or FAMILIES["ViT"](VIT_WIDTH, self.data))

    @cached_property
    def test(self) -> Split:
        """Test images that a model is asked about."""
        return self.data.split("test").some(self._asked.images)

    @cached_property
    def _few(self) -> Tensor:
        """Train images for calibration, by us and by others."""
        return self.data.split("train").some(CALIBRATION).images

    @cached_property
    def validation(self) -> Split:
        """Validation images that choose between trainings."""
        return self.data.split("validation").some(VALIDATION)

    def row(self, way: Way) -> Row:
        """A model of ours, exported as it would be delivered."""
        folder = self.out / "ours" / "".join(c if c.isalnum() else "-" for c in way.name)

        def make() -> str:
            build, training = self._chosen(way)
            export_trained(folder, build, DEVICE, Preprocessing.of(self.data))
            return training

        return self._kept(folder / MODEL, way.name, OURS, make)

    def others(self) -> Iterator[Row | Failed]:
        """Models that others make of the network in float, or why there is none."""
        for key, tool in _quantizers.TOOLS.items():
            path = self.out / "others" / f"{key}.onnx"
            yield self.attempt(path, tool.name, tool.maker, partial(self._hand_over, key, path))

    def attempt(self, path: Path, name: str, maker: str, make: Callable[[], str]) -> Row | Failed:
        """The row of a file that others make, or why it is not made or does not run."""
        try:
            return self._kept(path, name, maker, make)
        except RunError as error:
            return Failed(name, maker, f"is not made: {error}")
        except CostError as error:
            return Failed(name, maker, f"does not run: {error}")

    def _kept(self, path: Path, name: str, maker: str, make: Callable[[], str]) -> Row:
        """The row of a file, which is made now if it was not; `make` says how it was trained."""
        told = path.with_suffix(".json")
        if not told.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            training = make()
            compiled = open_runtime(DEVICE).compile(path.read_bytes())
            logits = torch.from_numpy(run_all(compiled, self.test.images.numpy(), 1))
            right = "".join("01"[r] for r in _right(logits, self.test).tolist())
            write_json(told, {"training": training, "right": right})
            print(f"made: {maker}, {name}; {training}", flush=True)
        kept = read_json(told)
        return Row(name, maker, kept["training"], path, np.array(list(kept["right"])) == "1")

    def _hand_over(self, tool: str, path: Path) -> str:
        """Let a quantizer of others write its file, in the first environment that has it.

        Raises:
            RunError: none has it, or it fails.
        """
        source, images = self.out / "ours" / REFERENCE / MODEL, path.parent / "calibration.npy"
        np.save(images, self._few.numpy())
        for python in (sys.executable, *self._asked.python):
            words = [python, _quantizers.__file__, tool, *map(str, (source, images, path))]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return "PTQ"
            if done.returncode != _quantizers.MISSING:
                raise RunError(last_line(done.stderr))
        package = _quantizers.TOOLS[tool].package
        raise RunError(f"not installed; pip install {package}, and name its Python by --python")

    def _chosen(self, way: Way) -> tuple[Build, str]:
        """A network that is ready for export, and how it was trained."""
        candidate = way.candidate(self._cut(way.cut))
        apart = trained_as(candidate, ("ptq", "qat"))
        network = self._network(apart.get("ptq", candidate))
        if "ptq" not in apart:  # nothing is rounded
            return self._build(way, candidate, network), "float"
        exact = _right(predict(apart["ptq"], network, self.validation), self.validation)
        after = {
            "PTQ": self._build(way, candidate, network),
            "PTQ, corrected": self._build(way, candidate, network, compensate=True),
        }
        rights = {name: self._validated(build) for name, build in after.items()}
        best = max(rights, key=lambda name: int(rights[name].sum()))
        tried = {best: rights[best]}
        if rights[best].sum() < exact.sum() - LOSS * len(exact):  # else there is little to win
            after["QAT"] = self._build(way, candidate, self._network(candidate))
            tried["QAT"] = self._validated(after["QAT"])
        taken = simplest(tried)
        shares = {**tried, "float": exact}
        told = ", ".join(f"{name} {right.double().mean():.1%}" for name, right in shares.items())
        return after[taken], f"{taken} (validation: {told})"

    def _validated(self, build: Build) -> Tensor:
        """Which validation images a build is right on, as torch computes its rounding (N,)."""
        return _right(build.logits(self.validation), self.validation)

    def _build(
        self, way: Way, candidate: Candidate, network: Network, compensate: bool = False
    ) -> Build:
        about = way.recipes, self.data, CALIBRATION, compensate
        return build_for(DEVICE, candidate, network, *about)

    def _network(self, candidate: Candidate) -> Network:
        """The network trained on from the base with what a candidate does to it."""

        def make() -> Network:
            images, kept = self._few, self.out / f"{candidate.key}.training"
            start = start_network(self._copied, candidate, images, self._tuning)
            network = train_alone(Finalist(candidate, start, kept), self._tuning)
            kept.unlink()
            return network

        return _loaded(self.out / f"{candidate.key}.safetensors", candidate, make)

    def _cut(self, share: float) -> Architecture:
        """The base's architecture without the least important heads and hidden units."""
        return allot(self._base, self._importance, share) if share else self.plain.architecture

    def _copied(self, candidate: Candidate) -> Network:
        """A copy of the base, or of what is most important in it."""
        if candidate.architecture == self.plain.architecture:
            return copy.deepcopy(self._base)
        return prune(self._base, candidate.architecture, self._importance)

    @cached_property
    def _importance(self) -> dict[str, Tensor]:
        """By how much the base's loss on labels would change without each of its weights."""
        network = copy.deepcopy(self._base)
        batches = islice(self._tuning.lessons.batches(SCORED[1], 1, 0), SCORED[0])
        losses = (F.cross_entropy(network(lesson.images), lesson.labels) for lesson in batches)
        return taylor(dict(network.named_parameters()), losses)

    @cached_property
    def _base(self) -> Network:
        """The network that all others start from, trained on labels alone if it is not given."""
        if self._given:
            return self._given
        made = partial(trained, self.plain, self.data, self._asked.steps, 0)
        return _loaded(self.out / "base.safetensors", self.plain, made)

    @cached_property
    def _tuning(self) -> FineTuning:
        lessons = make_lessons(self.data, self._base, VIEWS)
        config = FinishConfig(lr=LR)
        return FineTuning(lessons, self.validation, config, 0, length=self._asked.tune)


def time_in_turn(rows: Sequence[Row], image: NDArray[np.float32]) -> float:
    """Set the latencies of all rows, measured in turn; the spread of the machine's speed."""
    compiled = [open_runtime(DEVICE).compile(row.path.read_bytes()) for row in rows]
    clock = CLOCKS[DEVICE.clock]
    session = measure_session(
        compiled, [image] * len(rows), ROUNDS, clock=clock, heat_ms=NETWORK_HEAT_MS
    )
    for row, timing in zip(rows, session.timings, strict=True):
        row.latency_ms = timing.median_ms, timing.p10_ms, timing.p90_ms
    return session.drift


def _as_it_is(model: str) -> StartConfig:
    """A start that is not adapted to the images, whose classes it must know."""
    return StartConfig(model=model, adapt=AdaptConfig(epochs=0))


def _fitted(start: Start, data: Data) -> Network:
    """A start that sees the images as it saw its own."""
    network, _ = fit(start, _as_it_is(start.name), derive_space(start.network, start.name), data)
    return network


def _loaded(path: Path, candidate: Candidate, make: Callable[[], Network]) -> Network:
    """A network whose weights are in a file, which is made now if it was not."""
    if not path.exists():
        write_atomic(path, save(make().state_dict()))
    network = Network(candidate.architecture).eval()
    network.load_state_dict(load_file(path))
    return network


def _right(logits: Tensor, split: Split) -> Tensor:
    return logits.argmax(1) == split.labels


if __name__ == "__main__":
    main(sys.argv[1:])
