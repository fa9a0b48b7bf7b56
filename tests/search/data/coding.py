"""Pictures of noise in the bytes of a format, and what reading them gives."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from vitpareto.search.data.pixels import Look, UnreadableImage, open_image, to_pixels

COLOR, GRAY = Look(16, 3, "crop"), Look(16, 1, "crop")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def read(content: bytes, look: Look) -> np.ndarray:
    return to_pixels(open_image(io.BytesIO(content)), look)


def reason_of(make: Callable[[], object]) -> str:
    with pytest.raises(UnreadableImage) as caught:
        make()
    assert str(caught.value) == f"image cannot be read: {caught.value.reason}"
    return caught.value.reason
