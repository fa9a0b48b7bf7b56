"""Artifact: a delivered model in its folder, checked before it is opened, run in its runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load

from ...cost_models import Device
from ...cost_models.graphs.modules import input_shape
from ...cost_models.hand_over import check_hand_over
from ...cost_models.runtimes import Compiled, find_runtime, open_runtime, run_all
from ...spaces import Candidate
from ...spaces.errors import CostError, RunError, SpaceError, first_line
from ...spaces.exits import has_exits
from ...spaces.networks import Network
from ..data.dataset import Split
from ..training.forward import BATCH
from .build import Build
from .checks import check_answers, check_exits, float_distance
from .claims import Check
from .exit_parts import Rule, names_of, read_rule
from .formats import Format, format_of
from .kernel_inventory import Inventory
from .leaving import answers_of, part_of
from .model_parts import ModelPart, every_logits

CANDIDATE, WEIGHTS = "candidate.json", "model.safetensors"


class Answers(NamedTuple):
    """Answers of a model to some images.

    Attributes:
        logits: (N, K).
        part: that answers each image (N,); None without exits.
        every: logits of all parts (E, N, K), likewise.
    """

    logits: torch.Tensor
    part: torch.Tensor | None = None
    every: torch.Tensor | None = None


@dataclass(frozen=True)
class Artifact:
    """A delivered model, loaded in its runtime.

    Attributes:
        folder: that holds its files.
        candidate: that was delivered.
        format: of its model.
        content: of the model's file.
        compiled: ready to run.
        batch: images of one run.
        runtime: that compiled it.
        parts: of a model with exits; empty for any other.
    """

    folder: Path
    candidate: Candidate
    format: Format
    content: bytes
    compiled: Compiled
    batch: int
    runtime: str
    parts: Sequence[ModelPart] = ()

    @classmethod
    def load(cls, folder: Path, device: Device) -> Artifact:
        """Load an artifact for a device.

        Raises:
            RunError: a file is missing, or is not what its name says.
            CostError: the runtime refuses the graph.
            MissingRuntimeError: the runtime is not installed here.
        """
        candidate, form = read_candidate(folder), format_of(device)
        content = read_model(folder / form.file, form)
        runtime = open_runtime(device)
        try:
            compiled = runtime.compile(content)
        except CostError as error:
            raise CostError(f"{folder / form.file}: {error}") from error
        about = folder, candidate, form, content, compiled, device.batch, device.runtime
        return cls(*about, open_parts(folder, candidate, device, form))

    def logits(self, split: Split) -> torch.Tensor:
        """Logits from the runtime, batch by batch as it will be used: (N, K)."""
        return self.answers(split).logits

    def answers(self, split: Split) -> Answers:
        """The same, and with exits which part gave each answer."""
        if not self.parts:
            return Answers(self.whole_logits(split))
        images = split.batches(BATCH, self.candidate.architecture.input_size)
        every = torch.cat([every_logits(self.parts, x.numpy()) for x in images], 1)
        part = part_of(every, self.rule.above)
        return Answers(answers_of(every, part), part, every)

    def whole_logits(self, split: Split) -> torch.Tensor:
        """Logits of the whole network, where nobody leaves (N, K)."""
        size = self.candidate.architecture.input_size
        return torch.from_numpy(answers_to(self.compiled, split, size, self.batch))

    @cached_property
    def rule(self) -> Rule:
        """When which part answers.

        Raises:
            RunError: its file is missing or damaged.
        """
        return read_rule(self.folder)

    @cached_property
    def kernels(self) -> Mapping[str, int]:
        """Number of times that the runtime executes each kernel."""
        return self.compiled.kernels()

    @property
    def rounds(self) -> bool:
        """Whether any kernel that runs computes with fewer bits than float32."""
        return find_runtime(self.runtime).rounds(self.kernels)

    @cached_property
    def inventory(self) -> Inventory:
        """The operators in the file and what the runtime made of them."""
        return self.format.inspect(self.content, self.kernels, self.runtime)

    def check_answers(
        self, build: Build, split: Split, low: float, goal: str
    ) -> tuple[Answers, list[Check]]:
        """Answers on a split, and checks that compare them with torch's.

        With exits both the whole network and all parts are compared; the accuracy is that of the
        parts together.

        Args:
            build: from which it was made.
            split: images and labels.
            low: least accuracy that is allowed.
            goal: name of that accuracy.
        """
        logits, expected = self.whole_logits(split), build.logits(split)
        distance, bound = float_distance(logits, expected)
        # Some runtimes round by their own choice, which their kernels show.
        exact = build.exact and (
            distance <= bound or not find_runtime(self.runtime).rounds(self.kernels)
        )
        checks = check_answers(exact, logits, expected, split.labels, low, goal)
        if not self.parts:
            return Answers(logits), checks
        answers, wanted = self.answers(split), build.every_logits(split)
        assert answers.part is not None and answers.every is not None
        told = check_exits(
            *(exact, answers.every, wanted, answers.part, self.rule.above),
            *(split.labels, low, goal),
        )
        together = told[-1].name  # how right the whole network is, is none of its promises
        return answers, [*(check for check in checks if check.name != together), *told]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input of one run."""
        return input_shape(self.candidate, self.batch)

    @property
    def size_mb(self) -> float:
        """Size of the model's file in megabytes of 10^6 bytes; with exits of its parts."""
        return sum(map(len, self.contents)) / 1e6

    @property
    def contents(self) -> list[bytes]:
        """The files that run: that of the model, or its parts."""
        return [part.content for part in self.parts] or [self.content]


def answers_to(compiled: Compiled, split: Split, size: int, batch: int) -> NDArray[np.float32]:
    """Logits of a compiled model on a split, run by run as it will be used: (N, K).

    Args:
        compiled: the model.
        split: images and labels.
        size: of its input in pixels.
        batch: images of one run.
    """
    full = max(1, BATCH // batch) * batch
    return np.concatenate([run_all(compiled, x.numpy(), batch) for x in split.batches(full, size)])


def load_network(folder: str | Path) -> Network:
    """The trained network of an artifact, plain torch, weights in float.

    Raises:
        RunError: a file is missing, or is not what its name says.
    """
    folder = Path(folder)
    architecture = read_candidate(folder).architecture
    with torch.random.fork_rng(devices=[]):
        network = Network(architecture).eval()
    try:
        network.load_state_dict(load(_read(folder / WEIGHTS)))
    except (SafetensorError, RuntimeError) as error:
        first = first_line(error)
        raise RunError(f"{folder / WEIGHTS}: not the weights of its candidate: {first}") from error
    return network


def read_candidate(folder: Path) -> Candidate:
    """Read the candidate of an artifact.

    Raises:
        RunError: the file is missing, or holds none.
    """
    path = folder / CANDIDATE
    try:
        return Candidate.from_json(_read(path).decode(errors="replace"))
    except SpaceError as error:
        raise RunError(f"{path}: {error}") from error


def open_parts(folder: Path, candidate: Candidate, device: Device, form: Format) -> list[ModelPart]:
    """The parts of a model with exits; none of any other.

    Raises:
        RunError: a file is missing, or is not what its name says.
        CostError: the device cannot run parts, or its runtime refuses one.
    """
    if not has_exits(candidate.architecture):
        return []
    check_hand_over(device.to_dict())
    paths = [folder / name for name in names_of(candidate)]
    return [ModelPart.open(path, read_model(path, form), device) for path in paths]


def read_model(path: Path, form: Format) -> bytes:
    """Read the file of a model, and check that a runtime may be given it.

    Raises:
        RunError: it is missing, or its format refuses it.
    """
    content = _read(path)
    try:
        form.check(content)
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
