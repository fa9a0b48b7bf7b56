"""A start as users have it: an own small ViT, trained on digits for seconds, in a timm folder."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vitpareto.search.data.augment import Norm
from vitpareto.search.data.digits import read_digits

SIZE, STEPS = 16, 150
ARGS = {"img_size": SIZE, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
NORM = Norm((0.4,), (0.25,))  # of its own; the data have others
SPACE = """
name: own
in_chans: 1
num_classes: 10
input_size: 16
patch_size: 4
stages:
  - depth: [1, 2]
    width: 32
    head_dim: 8
    num_heads: [2, 4]
    weight_bits: [32, 8]
    act_bits: 8
    blocks:
      mlp_ratio: [2.0, 4.0]
"""


class Own(NamedTuple):
    """A folder with config.json and model.safetensors, and the model in it."""

    folder: Path
    model: Any

    @property
    def name(self) -> str:
        """What `start.model` says."""
        return f"local-dir:{self.folder}"

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.model.state_dict()


def save_model(folder: Path, model: Any, args: dict[str, Any] = ARGS) -> Own:
    """Write a model as timm's `save_for_hf` does."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = model.num_classes
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": classes,
        "model_args": {**args, "in_chans": 1},
        "pretrained_cfg": {
            "architecture": "vit_tiny_patch16_224",
            "num_classes": classes,
            "input_size": [1, args["img_size"], args["img_size"]],
            "mean": NORM.mean,
            "std": NORM.std,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "model.safetensors")
    return Own(folder, model.eval())


def new_model(classes: int, **args: Any) -> Any:
    """A model before any training."""
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=classes, in_chans=1, **{**ARGS, **args}
    )


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """It knows all digits, about as well as a minute of work goes."""
    pixels, labels = read_digits(SIZE)
    pixels, labels = pixels[:600], labels[:600]
    model = new_model(10)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        picked = torch.randint(len(labels), (64,), generator=torch.Generator().manual_seed(step))
        loss = F.cross_entropy(model(NORM(pixels[picked])), labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return save_model(tmp_path_factory.mktemp("starts") / "own", model)
