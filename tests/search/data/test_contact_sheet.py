from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vitpareto.search.data.catalog import Catalog, Row
from vitpareto.search.data.contact_sheet import EACH, contact_sheet
from vitpareto.search.data.overview import examples
from vitpareto.search.data.pixels import Look


def solid(count: int, side: int, channels: int = 3) -> NDArray[np.uint8]:
    """Images of one color each, all different (N, C, S, S)."""
    colors = np.arange(count)[:, None] * np.array([7, 11, 13])[:channels] % 199 + 20
    return np.broadcast_to(np.uint8(colors)[:, :, None, None], (count, channels, side, side))


def sheet(pixels: NDArray[np.uint8], captions: Sequence[str], path: Path) -> NDArray[np.uint8]:
    contact_sheet(pixels, captions, path)
    return np.asarray(Image.open(path))


def places(page: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> list[tuple[int, int] | None]:
    """Row and column of the first pixel of each image of one color."""
    found: list[tuple[int, int] | None] = []
    for image in pixels:
        at = np.argwhere((page == image[:, 0, 0]).all(2))
        found.append((int(at[0][0]), int(at[0][1])) if len(at) >= 56**2 else None)
    return found


@pytest.mark.parametrize("side", [8, 96, 300])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_in_rows_by_class(side: int, channels: int, tmp_path: Path) -> None:
    pixels = solid(7, side, channels)
    at = places(sheet(pixels, list("abaabbb"), tmp_path / "sheet.png"), pixels)
    rows = [spot and spot[0] for spot in at]
    assert len({rows[i] for i in (0, 2, 3)}) == len({rows[i] for i in (1, 4, 5, 6)}) == 1
    spots = [spot for spot in at if spot]
    assert len(set(spots)) == 7
    assert spots[0][1] < spots[2][1] < spots[3][1]


def test_no_more_than_a_few_of_each(tmp_path: Path) -> None:
    pixels = solid(40, 16)
    at = places(sheet(pixels, ["a"] * 30 + ["b"] * 10, tmp_path / "sheet.png"), pixels)
    assert [i for i, spot in enumerate(at) if spot] == [*range(EACH), *range(30, 30 + EACH)]


@pytest.mark.parametrize(("classes", "each"), [(1, 1), (2, 50), (10, 8), (101, 9), (1200, 3)])
def test_sheets_are_neither_tiny_nor_huge(classes: int, each: int, tmp_path: Path) -> None:
    captions = [f"class {i}" for i in range(classes) for _ in range(each)]
    page = sheet(solid(len(captions), 32), captions, tmp_path / "sheet.png")
    height, width, _ = page.shape
    assert 150 < height < 5000
    assert 300 < width < 5000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "cats"),
        ("кот", "кит"),
        ("猫", "犬"),
        ("a\nb", "a\tb"),
        (f"{'a' * 200}1", f"{'a' * 200}2"),
    ],
)
def test_names_that_differ_look_different(one: str, other: str, tmp_path: Path) -> None:
    pixels = solid(2, 16)
    pages = [sheet(pixels, [name, "z"], tmp_path / "sheet.png") for name in (one, other, one)]
    assert pages[0].shape == pages[1].shape
    assert not np.array_equal(pages[0], pages[1])
    assert np.array_equal(pages[0], pages[2])


@pytest.mark.parametrize("classes", [2, 150, 1000])
def test_no_image_is_read_that_is_not_shown(classes: int, tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(classes))
    rows = [Row(f"{i}", names[i % classes], "train", "") for i in range(10 * classes)]
    rows += [Row("held back", names[0], "test", "")] * 20
    unseen = ("without an image",) * 500
    catalog = Catalog("set", (*unseen, *names), Look(8, 1, "crop"), rows, (), {}, (), ())
    chosen = examples(catalog)
    captions = [rows[i].label for i in chosen]
    assert captions == sorted(captions, key=names.index)
    page = sheet(np.full((len(chosen), 1, 8, 8), 77, np.uint8), captions, tmp_path / "sheet.png")
    side = 128 if classes == 2 else 56
    assert (page == 77).all(2).sum() == len(chosen) * side**2
    assert examples(Catalog("set", names, catalog.look, (), (), {}, (), ())) == []
