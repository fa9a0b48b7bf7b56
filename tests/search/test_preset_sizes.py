"""Every preset at many sizes: a training step of its networks, and a dry run on photos."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitpareto.search.config import TrainConfig
from vitpareto.search.run.pieces import Dial, OneBatch
from vitpareto.search.training.losses import Lesson
from vitpareto.search.training.supernet import fresh, training_steps
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import SpaceError
from vitpareto.spaces.safe_yaml import read_yaml
from vitpareto.spaces.space import PRESETS

from ..shared import FAMILIES, made_once, slow_but
from .conftest import invoke

NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml") if path.stem not in FAMILIES)
SIZES = (16, 48, 96, 224, 512)
QUICK = {"photos@48"}
STEPS = {f"{name}@{(16, 96)[i % 2]}" for i, name in enumerate(NAMES)}  # a size of each
IMAGES = 2


def presets(quick: set[str]) -> list[object]:
    """Every preset at every size, all but some of them slow."""
    return slow_but(quick, (f"{name}@{size}" for name in NAMES for size in SIZES))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred photos of noise, no two alike, of two classes and several shapes."""

    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        for i in range(200):
            path = folder / "photos" / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((120 + i % 3, 90), Image.Resampling.BILINEAR).save(path)

    return made_once(tmp_path_factory, "photos of sizes", make) / "photos"


@pytest.mark.parametrize("name", presets(STEPS))
def test_a_step_trains_its_networks(name: str) -> None:
    space = SearchSpace.from_yaml(name).replace(num_classes=2)
    a = space.largest().architecture
    images = torch.randn(IMAGES, a.in_chans, a.input_size, a.input_size)
    lesson = Lesson(images, torch.arange(IMAGES) % 2, torch.zeros(IMAGES, 2))
    lessons = OneBatch(None, lesson.labels, torch.zeros(1, 0, 0), lesson=lesson, dial=Dial(IMAGES))
    for candidate in (space.largest(), space.smallest(), space.sample()[0]):
        network = fresh(candidate, 0)
        before = {n: p.detach().clone() for n, p in network.named_parameters()}
        steps = training_steps(candidate, network, lessons, TrainConfig(), 0, 10)
        assert math.isfinite(next(steps))
        moved = [n for n, p in network.named_parameters() if not p.equal(before[n])]
        assert len(moved) > 0.5 * len(before)


@pytest.mark.parametrize("name", presets(QUICK))
def test_a_dry_run_on_photos(name: str, photos: Path, tmp_path: Path) -> None:
    words = ["--set", f"data.root={photos}", "--set", f"space={name}", "--dry-run", "--json"]
    words += ["--set", "executor.threads=1"]
    result = invoke("search", "imagefolder", "--run-dir", tmp_path / "run", *words)
    assert result.exit_code == 0, result.output
    planned = json.loads(result.stdout)
    assert planned["images"]["classes"] == 2
    assert all(math.isfinite(s) and s >= 0 for s in planned["seconds"].values())
    own = read_yaml(PRESETS / f"{name.partition('@')[0]}.yaml")["input_size"]
    resized = f"{name}: input_size " in planned["space"]["description"]
    assert resized != name.endswith(f"@{own}")
    assert not (tmp_path / "run").exists()


def test_an_own_file_is_refused_with_sizes_that_work(photos: Path, tmp_path: Path) -> None:
    own = SearchSpace.from_yaml("photos").to_yaml()
    (tmp_path / "own.yaml").write_text(own.replace("input_size: 96", "input_size: 100"))
    words = ["--set", f"data.root={photos}", "--set", f"space={tmp_path / 'own.yaml'}"]
    result = invoke("search", "imagefolder", *words, "--run-dir", tmp_path / "run", "--dry-run")
    assert isinstance(result.exception, SpaceError)
    assert "input_size 96 or 112 would do" in str(result.exception)
