import io
from collections.abc import Callable
from functools import cache

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from vitpareto.search.data.duplicates import Duplicates, find_duplicates, fingerprint
from vitpareto.search.data.sources.listing import digest

NEAR: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "squashed": lambda image: image.resize((image.width, image.height // 3)),
    "quality": lambda image: reopened(image, "JPEG", quality=40),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "gray": lambda image: image.convert("L"),
    "cropped": lambda image: ImageOps.crop(image, round(0.015 * min(image.size))),
}
OTHER: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "turned": lambda image: image.rotate(90),
    "negative": ImageOps.invert,
    "corner": lambda image: image.crop((0, 0, image.width // 2, image.height // 2)),
}


def reopened(image: Image.Image, form: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, form, **options)
    return Image.open(file)


@cache
def photo(seed: int) -> Image.Image:
    """Blots of all sizes, as photos have them: the power falls with the frequency."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.fft.fftfreq(160), np.fft.fftfreq(200), indexing="ij")
    spectrum = np.fft.fft2(rng.normal(size=(3, 160, 200))) / (np.hypot(y, x) + 0.01)
    plain = np.fft.ifft2(spectrum).real
    return Image.fromarray(np.uint8(128 + 40 * plain / plain.std()).transpose(1, 2, 0).copy())


def duplicates_of(*images: Image.Image) -> Duplicates:
    """Duplicates among images, each in a file of its own."""
    return find_duplicates(
        np.stack([fingerprint(image) for image in images]), [str(i) for i in range(len(images))]
    )


@pytest.mark.parametrize("change", NEAR)
def test_copies_are_found(change: str) -> None:
    found = [duplicates_of(p, NEAR[change](p), photo(99)) for p in map(photo, range(40))]
    assert sum(each.near == [(0, 1)] for each in found) >= 39
    assert all(each.exact == [] for each in found)


@pytest.mark.parametrize("change", OTHER)
def test_other_pictures_are_not(change: str) -> None:
    for picture in map(photo, range(20)):
        assert duplicates_of(picture, OTHER[change](picture)).near == []


def test_other_photos_are_apart() -> None:
    found = duplicates_of(*map(photo, range(100)))
    assert found.near == []
    assert sorted(found.group) == list(range(100))


def test_exact_ones_are_those_with_equal_digests() -> None:
    prints = np.stack([fingerprint(photo(seed)) for seed in (0, 1, 0, 1, 0, 2)])
    found = find_duplicates(prints, ["a", "b", "a", "b", "c", "d"])
    assert found.exact == [(0, 2), (1, 3)]
    assert found.near == [(0, 2, 4)]  # with its exact ones; 1 and 3 are exact alone
    assert found.group[[0, 1]].tolist() == found.group[[2, 3]].tolist()
    assert len(set(found.group.tolist())) == 3
    assert digest(b"a") == digest(b"a") != digest(b"b")


def noisy(base: Image.Image, count: int, levels: int) -> NDArray[np.uint8]:
    """Prints of an image with noise of so many gray levels, which alike images chain through."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-levels, levels + 1, (count, 32, 32))
    return np.uint8(np.clip(fingerprint(base) + noise, 0, 255))


def test_order_does_not_matter() -> None:
    """With images of which some pairs are alike and some are not."""
    prints = np.concatenate([noisy(photo(seed), 30, 12) for seed in range(4)])
    digests = [digest(each.tobytes()) for each in prints]
    found = find_duplicates(prints, digests)
    assert 4 < len(set(found.group.tolist())) < len(prints)
    order = np.random.default_rng(1).permutation(len(prints))
    again = find_duplicates(prints[order], [digests[i] for i in order])
    as_before = sorted(tuple(sorted(order[list(group)].tolist())) for group in again.near)
    assert as_before == found.near
    members = [i for group in found.near for i in group]
    assert len(members) == len(set(members))
    for group in found.near:
        assert len(set(found.group[list(group)].tolist())) == 1


def test_flat_images_are_apart() -> None:
    """Blank pages with a little noise, or none, have nothing that could be alike."""
    blank = Image.new("L", (200, 150), 240)
    prints = np.concatenate([noisy(blank, 300, 3), noisy(blank, 3, 0)])
    found = find_duplicates(prints, [str(i) for i in range(303)])
    assert found.near == []


def test_a_chain_is_no_group() -> None:
    """A picture that turns into another one step by step: the ends are not duplicates."""
    start, end = (fingerprint(photo(seed)).astype(float) for seed in (0, 1))
    prints = np.stack([np.uint8(start + (end - start) * share) for share in np.linspace(0, 1, 200)])
    found = find_duplicates(prints, [str(i) for i in range(200)])
    assert found.near
    assert found.group[0] != found.group[-1]


def test_many_that_are_one() -> None:
    found = find_duplicates(noisy(photo(0), 3000, 2), [str(i) for i in range(3000)])
    assert found.near == [tuple(range(3000))]


def test_none() -> None:
    found = find_duplicates(np.zeros((0, 32, 32), np.uint8), [])
    assert (found.exact, found.near, len(found.group)) == ([], [], 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_fingerprint_has_the_hash_of_its_image(mode: str) -> None:
    for image in (photo(seed).convert(mode) for seed in range(10)):
        assert imagehash.phash(Image.fromarray(fingerprint(image))) == imagehash.phash(image)


def test_fingerprint_is_upright() -> None:
    picture = photo(0)
    lying = picture.transpose(Image.Transpose.ROTATE_90)
    exif = lying.getexif()
    exif[0x0112] = 6  # turn clockwise
    file = io.BytesIO()
    lying.save(file, "PNG", exif=exif)
    assert np.array_equal(fingerprint(Image.open(file)), fingerprint(picture))
