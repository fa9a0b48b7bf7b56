import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from vitpareto.cost_models.profile import kernel_times
from vitpareto.search.cli.commands import cli
from vitpareto.search.delivery import kit, targets
from vitpareto.search.experiments import side_by_side
from vitpareto.spaces import SearchSpace

from ..shared import few_rounds, made_once
from .made import made, verified

__all__ = ["invoke", "made", "verified"]

TINY = """
name: tiny
in_chans: 1
num_classes: 10
input_size: 16
patch_size: 4
global_pool: avg
layer_scale: true
norm: layer
act: relu
stages:
  - depth: [1, 2]
    width: [16, 32]
    head_dim: 8
    num_heads: 2
    token_keep: [1.0, 0.5]
    token_keep_at: 0
    weight_bits: [32, 8]
    act_bits: 8
    blocks:
      mixer: [softmax, linear]
      mlp_ratio: [1.0, 2.0]
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Few rounds around each test of this folder, with all fixtures that are made for it.

    It is no fixture, as one of the session would last into the tests of other folders, and one of a
    test would come after those of the session. It is called for tests of all folders.
    """
    if Path(__file__).parent not in item.path.parents:
        return (yield)
    with few_samples():
        return (yield)


@contextmanager
def few_samples() -> Iterator[None]:
    """Graphs and kernels are timed, but briefly; `tests/cost_models` looks at their spread."""
    with few_rounds() as patch:
        for module in (kit, side_by_side):
            patch.setattr(module, "ROUNDS", 3)
        for name in ("LEAST", "MOST"):
            patch.setattr(kernel_times, name, 4)
        patch.setattr(targets, "TURNS", 1)
        yield


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.from_text(TINY)


@pytest.fixture(scope="session")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_once(tmp_path_factory, "tiny", lambda at: (at / "tiny.yaml").write_text(TINY))
    return folder / "tiny.yaml"


def invoke(*words: str | Path) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="session")
def run_file(space_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seconds that has every stage."""
    train = {"epochs": 1, "batch_size": 128}
    run = {
        "space": str(space_file),
        "device": {"name": "cpu-1t", "calibrate_s": 3},
        "teacher": train,
        "supernet": {**train, "random": 1},
        "proxy": train,  # the longest training decides how many answers of the teacher are kept
        "forecast": {"candidates": 8, "steps": 3},
        "search": {"trials": 12, "sampler": "random"},
        "executor": {"threads": 1},
        "finish": {**train, "finalists": 2},
    }
    text = yaml.safe_dump(run)
    folder = made_once(tmp_path_factory, "run", lambda at: (at / "run.yaml").write_text(text))
    return folder / "run.yaml"


def search_once(factory: pytest.TempPathFactory, name: str, *words: str | Path) -> Path:
    """The folder of a search, which one process makes; every process has its copy."""

    def search(folder: Path) -> None:
        result = invoke("search", *words, "--run-dir", folder / name)
        # So little training and measuring may leave a check unmet, which is not at issue here.
        assert result.exit_code in (0, 3), result.output

    run = made_once(factory, name, search) / name
    return Path(shutil.copytree(run, factory.mktemp("runs") / name))


@pytest.fixture(scope="session")
def finished(run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its run folder; copy it before changing anything in it."""
    return search_once(tmp_path_factory, "finished", run_file, "--json")
