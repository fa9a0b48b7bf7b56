"""Pixels that foreign models have learned from, as the files beside their weights say it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ViTImageProcessor

from vitpareto.search.data.augment import Norm
from vitpareto.search.start.pixels import pixels_of
from vitpareto.spaces.errors import RunError

GRAY = {"image_mean": 0.5, "image_std": 0.25}
COLORS = {"image_mean": [0.3, 0.4, 0.5], "image_std": [0.25] * 3}


def pixels(folder: Path, channels: int, about: dict[str, Any]) -> Norm:
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return pixels_of(object(), str(folder), channels)


@pytest.mark.parametrize(
    ("about", "channels", "wanted"),
    [
        (COLORS, 3, Norm((0.3, 0.4, 0.5), (0.25, 0.25, 0.25))),
        (COLORS, 1, Norm((0.4,), (0.25,))),
        (GRAY, 3, Norm((0.5,) * 3, (0.25,) * 3)),
        (GRAY, 1, Norm((0.5,), (0.25,))),
        ({**COLORS, "do_normalize": False}, 3, Norm((0.0,) * 3, (1.0,) * 3)),
        ({**GRAY, "rescale_factor": 1 / 127.5}, 1, Norm((0.25,), (0.125,))),
        ({"do_normalize": False, "rescale_factor": 1 / 127.5}, 1, Norm((0.0,), (0.5,))),
    ],
)
def test_a_processor_says_numbers_of_channels_or_one_for_all(
    about: dict[str, Any], channels: int, wanted: Norm, tmp_path: Path
) -> None:
    found = pixels(tmp_path, channels, about)
    assert found.mean == pytest.approx(wanted.mean) and found.std == pytest.approx(wanted.std)


@pytest.mark.parametrize("left_out", ["image_mean", "image_std"])
def test_a_processor_that_does_not_say_is_refused(left_out: str, tmp_path: Path) -> None:
    about = {name: value for name, value in COLORS.items() if name != left_out}
    with pytest.raises(RunError, match=r"has no image_mean or no image_std: give start\.mean"):
        pixels(tmp_path, 3, about)


def test_a_processor_says_what_transformers_makes_of_pixels(tmp_path: Path) -> None:
    processor = ViTImageProcessor(
        do_resize=False, rescale_factor=1 / 127.5, image_mean=[1.0, 0.9, 1.1], image_std=[0.5] * 3
    )
    processor.save_pretrained(tmp_path)
    photo = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
    wanted = processor(photo, return_tensors="pt")["pixel_values"]
    norm = pixels_of(object(), str(tmp_path), 3)
    assert torch.allclose(norm(photo[None]), wanted, atol=1e-5)


def test_a_processor_that_leaves_scaling_to_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not scale pixels \(do_rescale\): give start\.mean"):
        pixels(tmp_path, 3, {**COLORS, "do_rescale": False})
