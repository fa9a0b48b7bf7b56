"""What a model's file says of its input is enough to make that input."""

import json

import numpy as np
import pytest
from PIL import Image

from vitpareto.search.config import DataConfig
from vitpareto.search.data.loading import load_data
from vitpareto.search.data.pixels import Look, to_pixels
from vitpareto.search.delivery.preprocessing import Preprocessing

ABOUT = Preprocessing((0.5, 0.4, 0.3), (0.1, 0.2, 0.3), ("b", "a"), Look(24, 3, "pad"))


def test_it_is_read_as_written() -> None:
    plain = json.loads(json.dumps(ABOUT.to_dict()))
    assert Preprocessing.from_dict(plain) == ABOUT
    assert plain["class_names"] == ["b", "a"]  # in the order of the outputs
    image = plain["image"]
    assert (image["size"], image["channels"], image["fit"]) == (24, 3, "pad")
    steps = [name.split()[0] for name in image["steps"]]
    assert steps == [str(i + 1) for i in range(len(steps))]


def test_those_of_older_runs_say_nothing_of_the_image() -> None:
    old = {"mean": [0.5], "std": [0.25], "class_names": ["a", "b"]}
    read = Preprocessing.from_dict(old)
    assert read.look is None and json.loads(json.dumps(read.to_dict())) == old
    with pytest.raises(KeyError, match="std"):
        Preprocessing.from_dict({"mean": [0.5], "class_names": []})


def test_it_is_that_of_the_data() -> None:
    data = load_data(DataConfig(limit=60), 8)
    assert Preprocessing.of(data).look == data.look == Look(8, 1, "squash")


def by_the_words(values: np.ndarray, image: dict) -> np.ndarray:
    """Steps 3 to 6 for upright 8-bit colors (H, W, 3), written from their text alone."""
    size, (height, width) = image["size"], values.shape[:2]
    left = top = 0.0
    across, down = width, height
    inner_width = inner_height = size
    if image["fit"] == "crop":
        across = down = min(width, height)
        left, top = (width - across) / 2, (height - down) / 2
    if image["fit"] == "pad":
        longer = max(width, height)
        inner_width = max(1, int(size * width / longer + 0.5))
        inner_height = max(1, int(size * height / longer + 0.5))

    def resample(rows: np.ndarray, start: float, length: float, new: int) -> np.ndarray:
        """Along the first axis."""
        stretch = max(length / new, 1)
        out = []
        for i in range(new):
            center = start + (i + 0.5) * length / new
            x = np.abs(np.arange(len(rows)) + 0.5 - center) / stretch
            near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            weights = np.where(x < 1, near, np.where(x < 2, far, 0))
            out.append(np.tensordot(weights / weights.sum(), rows, 1))
        return np.stack(out).round().clip(0, 255)

    shown = resample(values.swapaxes(0, 1).astype(float), left, across, inner_width)
    shown = resample(shown.swapaxes(0, 1), top, down, inner_height)
    canvas = np.full((size, size, 3), float(image["pad_value"]))
    top_rows, left_columns = (size - inner_height) // 2, (size - inner_width) // 2
    canvas[top_rows:, left_columns:][:inner_height, :inner_width] = shown
    return canvas.transpose(2, 0, 1)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (7, 5), (24, 24), (90, 9)])
def test_the_words_are_enough(fit: str, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    look = Look(24, 3, fit)
    image = Preprocessing(ABOUT.mean, ABOUT.std, (), look).to_dict()["image"]
    found = to_pixels(Image.fromarray(values), look)
    # Pillow rounds its weights to multiples of 2^-22, which rarely tips a value over.
    off = np.abs(found - by_the_words(values, image))
    assert off.max() <= 2 and (off > 0).mean() < 0.02
