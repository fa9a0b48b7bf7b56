"""Functions leave the threads, generators and modes of their process as they were."""

import logging
import random
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitpareto.cost_models import Device, calibrate
from vitpareto.cost_models.calibration.bundle import write_bundle
from vitpareto.cost_models.graphs.modules import network
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.measure.capabilities import capabilities
from vitpareto.cost_models.runtimes.torch import threads
from vitpareto.search.compress import deliverable
from vitpareto.search.compress.low_rank import Factored
from vitpareto.search.config import DataConfig, SupernetConfig, TeacherConfig, load_config
from vitpareto.search.data.loading import load_data
from vitpareto.search.delivery.decompression import policies, with_policy
from vitpareto.search.delivery.export import export_random
from vitpareto.search.dry_run import plan
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.library.making import make_library
from vitpareto.search.library.start import Start
from vitpareto.search.run.stages import logging_to
from vitpareto.search.scoring.assembled import AssembledScorer
from vitpareto.search.training.supernet import fresh, train_supernet
from vitpareto.search.training.teacher import Lessons, train_teacher
from vitpareto.spaces import Candidate, Policy, SearchSpace

from .shared import few_rounds, slow_but

pytestmark = pytest.mark.onnx
THREADS = 2
SPACE = SearchSpace.from_text(
    """
name: tiny
in_chans: 1
num_classes: 10
input_size: 16
patch_size: [4, 8]
global_pool: avg
stages:
  - depth: 1
    width: [16, 32]
    head_dim: 8
    num_heads: 2
    mlp_ratio: 1.0
"""
)
CPU, TORCH = Device.load("cpu-1t"), Device("torch", "torch", "cpu", 1, ("float",))


def views(folder: Path) -> None:
    """Of images that are read from files."""
    for name in "ab":
        (folder / name).mkdir()
        for index in range(4):
            Image.new("RGB", (12, 12), (index, 0, 0)).save(folder / name / f"{index}.png")
    data = load_data(DataConfig(root=str(folder)), 8)
    assert len(list(data.views().batches(0, [torch.arange(2)]))) == 1


def teach(folder: Path) -> None:
    data = load_data(DataConfig(limit=60), 8)
    with threads(1):  # two on one core wait for each other
        train_teacher(data, TeacherConfig(epochs=1, batch_size=30), 0)


def time_torch(folder: Path) -> None:
    bench = Bench(TORCH)
    bench.time([bench.network(SPACE.smallest(), {})], rounds=3)


def learn(folder: Path) -> None:
    """Shared weights, what is cut out of them, and what is made of that for delivery."""
    data = load_data(DataConfig(limit=60), 16)
    answers = torch.nn.functional.one_hot(data.train_labels, 10) * 6.0
    config, low = SupernetConfig(epochs=1, batch_size=30), Policy(rank_ratio=0.25)
    with threads(1):
        supernet = train_supernet(SPACE, Lessons.of(data, answers[None]), config, 0)
        candidate = Candidate.uncompressed(SPACE.largest().architecture)
        for place in policies(candidate):
            candidate = with_policy(candidate, place, low)
        network = deliverable(supernet.extract(candidate), candidate)
        assert any(isinstance(part, Factored) for part in network.modules())


def assemble_from(folder: Path) -> None:
    """A library, and a candidate that is scored."""
    data = load_data(DataConfig(limit=60), 16)
    start = Start.of(fresh(SPACE.largest(), 0), data.split("train").images[:8])
    with threads(1):
        library = make_library(start, SPACE, LocalExecutor(), folder / "library.safetensors")
        AssembledScorer(library, data.split("search"))(SPACE.smallest())


def log_to(folder: Path) -> None:
    with logging_to(folder / "log.txt"):
        pass


def calibrate_briefly(folder: Path) -> None:
    with few_rounds():
        calibrate(CPU, SPACE, 0.1, out=folder / "m.json")


def look_briefly(folder: Path) -> None:
    with few_rounds():
        capabilities(CPU, ["mlp"])


def plan_a_run(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(SPACE.to_yaml())
    less = ("executor.threads=1", "executor.workers=1", "forecast.candidates=0")
    with few_rounds():
        plan(load_config("digits", [f"space={folder / 'tiny.yaml'}", *less]), folder / "run")


DOES: dict[str, Callable[[Path], object]] = {
    "calibrate": calibrate_briefly,
    "calibrate torch": time_torch,
    "capabilities": look_briefly,
    "write_bundle": lambda folder: write_bundle(CPU, SPACE, folder / "b", most=2, networks=2),
    "network": lambda folder: network(SPACE.smallest()),
    "fresh": lambda folder: fresh(SPACE.smallest(), 3),
    "export": lambda folder: export_random(folder, SPACE.smallest(), CPU),
    "plan": plan_a_run,
    "teacher": teach,
    "supernet": learn,
    "library": assemble_from,
    "views": views,
    "logging": log_to,
}


def state() -> dict[str, object]:
    """What a process shares."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - nothing here may draw from it
    return {
        "threads": torch.get_num_threads(),
        "threads of its libraries": torch.__config__.parallel_info(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": (kind, keys.tolist(), *rest),
        "random": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "type": torch.get_default_dtype(),
        "precision": torch.get_float32_matmul_precision(),
        "level": logging.getLogger("vitpareto").level,
        "filters": list(warnings.filters),
    }


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Libraries add filters of warnings when they are imported, which no importer can help."""
    for name in ("scipy.optimize", "scipy.sparse.csgraph", "torch._dynamo"):
        import_module(name)


@pytest.mark.parametrize("name", slow_but({*DOES} - {"plan"}, DOES))
def test_nothing_global_is_changed(name: str, tmp_path: Path) -> None:
    before_all = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        before = state()
        DOES[name](tmp_path)
        after = state()
    finally:
        torch.set_num_threads(before_all)
    assert [what for what in before if before[what] != after[what]] == []
