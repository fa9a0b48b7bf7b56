"""Contract of a file format, as a class of tests.

A plugin's tests subclass it, name the format and a device that runs it, and say how to read the
metadata of a file; nothing else is needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...cost_models import Device
from ...cost_models.runtimes import find_runtime
from ...spaces import Architecture, Block, Candidate, Policy, Stage
from ...spaces.compression import Compression, StagePolicy
from ...spaces.errors import CostError, VitParetoError
from ..data.dataset import Split
from .artifact import CANDIDATE, Artifact
from .build import Build
from .checks import float_distance
from .export import check_runs, random_build
from .formats import FORMATS, Format, format_of
from .preprocessing import Preprocessing

POLICIES = (Policy(), Policy(8), Policy(8, 8), Policy(4, 8, rank_ratio=0.5), Policy(sparsity=0.5))
ABOUT = Preprocessing((0.25,), (0.5,), tuple(f"class {i}" for i in range(10)))


class FormatContract:
    """Laws of a format.

    Attributes:
        name: of the format in the registry.
        device: whose runtime runs it.
        batches: of images that its files may take at once.
        off: largest distance of rounded logits from torch's, relative to these: a value half
            way between two integers may be rounded up here and down there.
    """

    name: str
    device: Device
    batches: Sequence[int] = (1, 4)
    off: float = 0.03

    def metadata(self, content: bytes) -> Mapping[str, Any]:
        """Metadata in a file, by name."""
        raise NotImplementedError

    def test_its_runtime_names_it(self) -> None:
        """The device leads to the format."""
        assert find_runtime(self.device.runtime).format == self.name
        assert self.format is format_of(self.device)
        assert Path(self.format.file).name == self.format.file

    def test_the_runtime_answers_as_torch(self) -> None:
        """Logits agree in every precision that the device has, in batches of each size."""
        for build in self.builds():
            for batch in self.batches:
                artifact = self.written(build, replace(self.device, batch=batch))
                images, labels = build.images, torch.zeros(len(build.images), dtype=torch.long)
                logits, wanted = artifact.logits(Split(images, labels)), self.wanted(build)
                distance, bound = float_distance(logits, wanted)
                if not build.exact or artifact.rounds:
                    distance = ((logits - wanted).norm() / wanted.norm()).item()
                    bound = self.off
                assert distance <= bound, (build.candidate.to_json(), distance, bound)

    def test_it_says_what_a_user_must_know(self) -> None:
        """Key, size, normalization and classes are inside the file."""
        build = next(self.builds())
        about = self.metadata(self.format.encode(build, self.device, ABOUT))
        assert about["key"] == build.candidate.key
        assert about["input_size"] == build.candidate.architecture.input_size
        assert list(about["mean"]) == list(ABOUT.mean) and list(about["std"]) == list(ABOUT.std)
        assert list(about["class_names"]) == list(ABOUT.class_names)

    def test_the_same_build_gives_the_same_kernels(self) -> None:
        """Two files of one build have the same inventory."""
        first, second = (self.written(next(self.builds()), self.device) for _ in "ab")
        assert first.inventory == second.inventory
        assert first.inventory.executed and first.inventory.fallbacks == 0

    def test_companions_have_names_of_their_own(self) -> None:
        """No companion has the name of another file."""
        names = self.format.companions(next(self.builds()), self.device, ABOUT).keys()
        assert all(Path(name).name == name for name in names)
        assert not names & {self.format.file, CANDIDATE, "model.safetensors", "manifest.json"}

    def test_other_files_are_refused_in_one_line(self) -> None:
        """Empty, foreign and truncated files are refused by name."""
        build = next(self.builds())
        whole = self.format.encode(build, self.device, ABOUT)
        for content in (b"", b"not a model" * 100, whole[: len(whole) // 2]):
            try:
                self.loaded(build.candidate, content, self.device)
            except VitParetoError as error:
                assert self.format.file in str(error) and "\n" not in str(error)
            else:
                raise AssertionError(f"{len(content)} bytes of no model were loaded")

    @property
    def format(self) -> Format:
        """The format itself."""
        return FORMATS[self.name]

    def builds(self) -> Iterator[Build]:
        """Build a small network with random weights in every precision of the device."""
        blocks = (Block(num_heads=4, head_dim=8, mlp_hidden=64),) * 2
        a = Architecture((Stage(32, blocks),), 16, 1, 10, patch_size=4, global_pool="avg")
        for policy in POLICIES:
            stages = ((policy,) * len(stage.blocks) for stage in a.stages)
            staged = tuple(StagePolicy(each, each, policy) for each in stages)
            candidate = Candidate(a, Compression(staged, policy, policy))
            try:
                check_runs(candidate, self.device)
            except CostError:
                continue
            yield random_build(self.device, candidate)

    def wanted(self, build: Build) -> Tensor:
        """Logits of torch on a build's own images."""
        labels = torch.zeros(len(build.images), dtype=torch.long)
        return build.logits(Split(build.images, labels))

    def written(self, build: Build, device: Device) -> Artifact:
        """Write a build to a file, and load it."""
        return self.loaded(build.candidate, self.format.encode(build, device, ABOUT), device)

    def loaded(self, candidate: Candidate, content: bytes, device: Device) -> Artifact:
        """Write a file to a folder, and load it."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / CANDIDATE).write_text(candidate.to_json(), encoding="utf-8")
            (Path(folder) / self.format.file).write_bytes(content)
            return Artifact.load(Path(folder), device)
