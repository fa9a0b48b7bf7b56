from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from vitpareto.search.cli.commands import cli
from vitpareto.spaces import SearchSpace

from .made import made

__all__ = ["invoke", "made"]

TINY = """
name: tiny
in_chans: 1
num_classes: 10
input_size: 32
patch_size: 8
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


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.from_text(TINY)


@pytest.fixture(scope="session")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spaces") / "tiny.yaml"
    path.write_text(TINY)
    return path


def invoke(*words: str | Path) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="session")
def run_file(space_file: Path) -> Path:
    """A run of seconds that has every stage."""
    path = space_file.with_name("run.yaml")
    train = {"epochs": 1, "batch_size": 128}
    run = {
        "space": str(space_file),
        "device": {"name": "cpu-1t", "calibrate_s": 3},
        "teacher": train,
        "supernet": {**train, "random": 1},
        "forecast": {"candidates": 8, "steps": 3},
        "search": {"trials": 12, "sampler": "random"},
        "executor": {"threads": 1},
        "finish": {**train, "finalists": 2},
    }
    path.write_text(yaml.safe_dump(run))
    return path


@pytest.fixture(scope="session")
def finished(run_file: Path) -> Path:
    """Its run folder; copy it before changing anything in it."""
    run = run_file.with_name("finished")
    result = invoke("search", run_file, "--run-dir", run, "--json")
    # So little training and measuring may leave a check unmet, which is not at issue here.
    assert result.exit_code in (0, 3), result.output
    return run
