"""Data-parallel training: two processes come to what one does with the doubled batch."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from vitpareto.search.cli.commands import cli
from vitpareto.search.config import ExecutorConfig, SupernetConfig
from vitpareto.search.training.checkpoint import Checkpoint
from vitpareto.search.training.distribute import train_shared
from vitpareto.search.training.loss_curves import Health
from vitpareto.search.training.supernet import train_supernet
from vitpareto.spaces.errors import RunError


@pytest.mark.ray
@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="ray[train] is installed")
def test_without_the_extra_a_run_is_refused_at_once(tmp_path: Path) -> None:
    words = ["search", "digits", "--set", "supernet.workers=2", "--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, words)
    assert isinstance(result.exception, RunError)
    rule = r'supernet.workers: 2 processes need Ray Train, .* pip install "vitpareto\[train\]"'
    assert re.match(rule, str(result.exception))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # of Ray's own workers
def test_two_workers_have_the_loss_curve_of_the_doubled_batch(
    space, lessons, tmp_path: Path
) -> None:
    pytest.importorskip("ray.train", exc_type=ImportError, reason="needs ray[train]")
    recipe = SupernetConfig(epochs=5, batch_size=64, lr=2e-3, workers=2)
    whole, shared = Health(), Health()
    doubled = recipe.model_copy(update={"batch_size": 128})
    train_supernet(space, lessons, doubled, 0, health=whole)
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    train_shared(space, lessons, recipe, 0, ExecutorConfig(), checkpoint, shared)
    assert shared.curves.keys() == whole.curves.keys()
    for name, curve in whole.curves.items():
        assert len(curve) == 4
        # bfloat16 rounds parts of a batch differently from the whole.
        assert shared.curves[name] == pytest.approx(curve, rel=5e-3)
