"""Distillation: what each loss on a teacher's answers brings a student, and what it costs it.

`python -m tests.bench distillation` trains a teacher on labels, then students of one small ViT on
labels alone and by each loss, for as many steps and from the same seeds, and prints how right they
are on test images that nothing looked at before. One of each is exported, and all files are timed
in turn: distillation changes weights and no operation. Digits and the five seeds that are usual
take some minutes of one core; `--train PATH` takes the images of PATH/CLASS, or of a table.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from vitpareto.cost_models import Device
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.standalone.runner import CLOCKS
from vitpareto.cost_models.standalone.timing import NETWORK_HEAT_MS, Timing, measure_session
from vitpareto.search.config import DataConfig, DistillConfig, FinishConfig
from vitpareto.search.config.trainings import TeacherConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.loading import load_data
from vitpareto.search.delivery.export import build_for
from vitpareto.search.delivery.formats import format_of
from vitpareto.search.training.finetune import Finalist, FineTuning, train_alone
from vitpareto.search.training.forward import predict
from vitpareto.search.training.losses import Answer, Lesson, label_loss
from vitpareto.search.training.supernet import fresh
from vitpareto.search.training.teacher import Lessons, make_lessons, train_teacher
from vitpareto.search.training.teacher import predict as answers_of
from vitpareto.spaces import Architecture, Block, Candidate, Stage
from vitpareto.spaces.networks import Network

from ._row import HEADER, row

SHARES = {"search": 0.02, "validation": 0.15, "test": 0.4}  # nothing is searched
DEVICE, ROUNDS = Device.load("cpu-1t"), 25
SIZE, PATCH, WIDTH, DEPTH, HEADS = 16, 4, 32, 2, 4  # of the student
VIEWS = 4  # of each train image, that the teacher answers
LABELS = "labels alone"
LOSSES = {
    "the teacher's probabilities": DistillConfig(),
    "its decisions": DistillConfig(loss="hard"),
    "probabilities, and which images are alike": DistillConfig(features=1.0),
    "probabilities, and where it looks": DistillConfig(attention=1.0),
    "probabilities, and both": DistillConfig(features=1.0, attention=1.0),
}


@dataclass(frozen=True)
class LabelsAlone(Lessons):
    """Lessons whose teacher is not listened to."""

    def loss(self, answer: Answer, lesson: Lesson) -> Tensor:
        return label_loss(answer.logits[0], lesson.labels, lesson.weights)


def main(arguments: Sequence[str] = ()) -> None:
    """Print accuracies and latencies."""
    asked = _options(arguments)
    torch.set_num_threads(1)
    data = load_data(_images(asked.train), SIZE)
    teacher = train_teacher(data, TeacherConfig(epochs=asked.passes), 0)
    test, validation = data.split("test"), data.split("validation")
    told = make_lessons(data, teacher, VIEWS)
    candidate = student(data)
    print(
        f"{data.name}: {len(data.train_labels)} train images, {asked.steps} steps of 64, "
        f"{len(test)} test images, {asked.seeds} seeds\n{HEADER}"
    )
    row("teacher", f"{_share(answers_of(teacher, test.images), test.labels):.2%}")
    plain, graphs = list[float](), list[bytes]()
    for name, lessons in ways(told, teacher):
        rights = list[float]()
        for seed in range(asked.seeds):
            config = FinishConfig(lr=asked.lr)
            tuning = FineTuning(lessons, validation, config, seed, length=asked.steps)
            network = trained(candidate, tuning)
            rights.append(_share(predict(candidate, network, test), test.labels))
            if not seed:
                graphs.append(exported(candidate, network, data))
        plain = plain or rights
        gains = [right - alone for right, alone in zip(rights, plain, strict=True)]
        row(name, f"{mean(rights):.2%}", f"{mean(gains):+.2%}", _spread(gains))
    print()
    timings = timed(graphs, test.images[:1].numpy())
    for (name, _), graph, timing in zip(ways(told, teacher), graphs, timings, strict=True):
        spread = f"{timing.p10_ms:.4f} to {timing.p90_ms:.4f}; {len(graph):,} bytes"
        row(f"latency, {name}", f"{timing.median_ms:.4f} ms", "", spread)


def _options(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(
        "python -m tests.bench distillation",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", default="", metavar="PATH", help="images, in place of digits")
    parser.add_argument("--seeds", type=int, default=5, help="students of each loss")
    parser.add_argument("--steps", type=int, default=200, help="of each student, of 64 images")
    parser.add_argument("--passes", type=int, default=30, help="of the teacher")
    parser.add_argument("--lr", type=float, default=2e-3, help="of the students")
    return parser.parse_args(arguments)


def _images(path: str) -> DataConfig:
    return DataConfig(root=path, flip=True, **SHARES) if path else DataConfig(**SHARES)


def student(data: Data) -> Candidate:
    """A small ViT for the images."""
    block = Block("softmax", num_heads=HEADS, head_dim=WIDTH // HEADS, mlp_hidden=2 * WIDTH)
    architecture = Architecture(
        (Stage(WIDTH, (block,) * DEPTH),),
        *(SIZE, data.in_chans, data.num_classes),
        patch_size=PATCH,
        global_pool="avg",
    )
    return Candidate.uncompressed(architecture)


def ways(told: Lessons, teacher: torch.nn.Module) -> Iterator[tuple[str, Lessons]]:
    """Lessons by each loss, the first on labels alone."""
    yield LABELS, LabelsAlone(told.views, told.labels, told.teacher)
    for name, config in LOSSES.items():
        yield name, replace(told, config=config, network=teacher)


def trained(candidate: Candidate, tuning: FineTuning) -> Network:
    """A student from the start that its seed gives."""
    with TemporaryDirectory() as folder:
        network = fresh(candidate, tuning.seed).cpu()
        return train_alone(Finalist(candidate, network, Path(folder) / "training"), tuning)


def exported(candidate: Candidate, network: Network, data: Data) -> bytes:
    """A student as it would be delivered."""
    build = build_for(DEVICE, candidate, network, ("float",), data, 64)
    return format_of(DEVICE).encode(build, DEVICE, None)


def timed(graphs: Sequence[bytes], image: np.ndarray) -> list[Timing]:
    """Latencies, in turn."""
    compiled = [open_runtime(DEVICE).compile(graph) for graph in graphs]
    clock = CLOCKS[DEVICE.clock]
    inputs = [image] * len(graphs)
    return measure_session(compiled, inputs, ROUNDS, clock=clock, heat_ms=NETWORK_HEAT_MS).timings


def _share(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).double().mean().item()


def _spread(values: Sequence[float]) -> str:
    return f"sd {stdev(values):.2%}" if len(values) > 1 else ""


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
