"""A whole search from a TinyViT, whose stem sees the border and whose blocks take turns."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from vitpareto.search.delivery.artifact import read_candidate
from vitpareto.search.delivery.manifest import manifests

from .conftest import invoke

ARGS = {"embed_dims": (16, 32), "depths": (1, 2), "num_heads": (1, 4), "window_sizes": (4, 4)}
MEAN, STD, SIZE = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3], 32


def save_model(folder: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("tiny_vit_5m_224", num_classes=2, **ARGS)
    pretrained = {"input_size": [3, SIZE, SIZE], "mean": MEAN, "std": STD, "num_classes": 2}
    about = {"architecture": "tiny_vit_5m_224", "num_classes": 2, "model_args": ARGS}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(about | {"pretrained_cfg": pretrained}))
    save_file(model.state_dict(), folder / "model.safetensors")


def save_photos(root: Path) -> None:
    """Bright and dark ones."""
    rng = np.random.default_rng(0)
    for i in range(120):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(100, size=(SIZE, SIZE, 3)) + 100 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.mark.slow
@pytest.mark.onnx
def test_all_networks_see_its_pixels_and_take_its_turns(tmp_path: Path) -> None:
    save_model(tmp_path / "own")
    save_photos(tmp_path / "photos")
    train = {"epochs": 1, "batch_size": 32}
    run = {
        "space": "auto",
        "data": {"root": str(tmp_path / "photos")},
        "device": {"name": "cpu-1t", "calibrate_s": 3},
        "start": {"model": f"local-dir:{tmp_path / 'own'}", "adapt": train},
        "forecast": {"candidates": 8, "steps": 3},
        "search": {"trials": 8, "sampler": "random"},
        "executor": {"threads": 1},
        "finish": {**train, "finalists": 1},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    result = invoke("search", tmp_path / "run.yaml", "--run-dir", tmp_path / "run")
    assert result.exit_code in (0, 3), result.output
    for manifest in manifests(tmp_path / "run" / "pareto"):
        assert [*manifest.preprocessing.mean] == MEAN and [*manifest.preprocessing.std] == STD
        _, last = read_candidate(tmp_path / "run" / "pareto" / manifest.key).architecture.stages
        assert [b.mixer in ("window", "linear") for b in last.blocks] == [True, False] * 2
        assert [b.mixer == "depthwise" for b in last.blocks] == [False, True] * 2
