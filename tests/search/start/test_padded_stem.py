"""A start whose stem sees the border of images: all networks of its run see its own pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitpareto.search.config import RunConfig
from vitpareto.search.data.augment import Norm
from vitpareto.search.data.loading import (
    catalog_of,
    load_data,
    pixels_of,
    record_images,
    sample_data,
)
from vitpareto.search.delivery.preprocessing import Preprocessing
from vitpareto.search.start.derive import derive_space
from vitpareto.search.start.fitted import Start, fit, norm_for
from vitpareto.search.store.run_folder import RunPaths
from vitpareto.spaces.convert import from_model
from vitpareto.spaces.convert.contract import with_noise
from vitpareto.spaces.errors import SpaceError

from ...shared import slim_poolformer

SIZE, MEAN, STD = 32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def poolformer() -> tuple[Start, nn.Module]:
    """As a start, and itself."""
    model = with_noise(slim_poolformer(num_classes=2)).eval()
    return Start("poolformer", from_model(model), Norm(MEAN, STD)), model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(40):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    return root


def test_it_answers_on_the_images_of_a_run_as_the_original(
    poolformer: tuple[Start, nn.Module], photos: Path, tmp_path: Path
) -> None:
    start, model = poolformer
    config = RunConfig(space="auto", data={"root": str(photos)}, start={"model": "poolformer"})
    space = derive_space(start.network, "small")
    norm = norm_for(start, space)
    assert norm == start.norm and norm_for(None, space) is None

    paths = RunPaths(tmp_path)
    record_images(config.data, SIZE, paths, norm)
    data = load_data(config.data, SIZE, None, paths)
    few = sample_data(config.data, SIZE, catalog_of(config.data, SIZE, norm=norm))
    assert (few.mean, few.std) == (data.mean, data.std) == (MEAN, STD)
    assert (Preprocessing.of(data).mean, Preprocessing.of(data).std) == (MEAN, STD)

    network, knows = fit(start, config.start, space, data)
    images = data.split("validation").images
    with torch.no_grad():
        assert knows and torch.allclose(network(images), model(images), atol=1e-4)
    rows = catalog_of(config.data, SIZE).rows_of("validation").tolist()
    pixels = torch.from_numpy(pixels_of(config.data, SIZE, rows)).float() / 255
    seen = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert torch.allclose(images, seen, atol=1e-5)


def test_gray_images_have_another_border(poolformer: tuple[Start, nn.Module]) -> None:
    start, _ = poolformer
    gray = derive_space(start.network, "small").replace(in_chans=1)
    with pytest.raises(SpaceError, match=r"each of its 3 channel\(s\), and the images have 1"):
        norm_for(start, gray)


def test_other_runs_see_the_pixels_of_their_images(photos: Path, tmp_path: Path) -> None:
    config = RunConfig(space="digits", data={"root": str(photos)})
    paths = RunPaths(tmp_path)
    record_images(config.data, SIZE, paths)
    assert "norm" not in json.loads(paths.catalog.read_text())
    assert load_data(config.data, SIZE, None, paths).mean != MEAN
