"""Data sets of others: their classes keep their numbers, and odd labels are one line."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitpareto.search.data.decoding import open_image, to_pixels
from vitpareto.search.data.sources import timm_dataset
from vitpareto.search.data.sources.listing import Listing
from vitpareto.search.data.sources.timm_dataset import list_timm
from vitpareto.spaces.errors import RunError


class Torch:
    """As torchvision has them."""

    def __init__(self, targets: Any, numbers: Mapping[str, int]) -> None:
        self.targets, self.class_to_idx = targets, numbers

    def __getitem__(self, index: int) -> Any: ...


class HuggingFace:
    """As timm reads those of Hugging Face."""

    def __init__(self, columns: Mapping[str, Any], files: Sequence[Path] = ()) -> None:
        self.reader, self.files = self, files
        self.label_key, self.dataset = "label", columns

    def __getitem__(self, index: int) -> Any:
        return BytesIO(self.files[index].read_bytes()), self.dataset["label"][index]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch):
    def listed(dataset: Any) -> Listing:
        monkeypatch.setattr(timm_dataset, "_opened", lambda *_: dataset)
        return list_timm("torch/some", "", "train", "")

    return listed


def test_synonyms_are_one_class_and_namesakes_two(listed: Any) -> None:
    classes = [("tench", "Tinca tinca"), ("crane",), ("shark", "man-eater"), ("crane",)]
    numbers = {name: i for i, names in enumerate(classes) for name in names}
    listing = listed(Torch([0, 1, 2, 3], numbers))
    assert listing.class_names == ("tench", "class 1", "shark", "crane")
    assert listing.labels == [0, 1, 2, 3]


def test_numbers_in_other_clothes(listed: Any) -> None:
    numbers = {name: i for i, name in enumerate("abc")}
    for labels in (torch.tensor([2, 0, 1]), ["2", "0", "1"], [2.0, 0.0, 1.0]):
        assert listed(Torch(labels, numbers)).labels == [2, 0, 1]


@pytest.mark.parametrize(
    ("dataset", "given"),
    [
        (Torch(torch.zeros(3, 8).long(), {"a": 0, "b": 1}), r"got tensor\(\[0, 0"),
        (HuggingFace({"label": ["cat", "dog"]}), "got 'cat'"),
        (HuggingFace({"label": [[0, 1], [1]]}), r"got \[0, 1\]"),
        (HuggingFace({"label": [1, None]}), "got None"),
        (HuggingFace({"label": [1, 0.5]}), r"got 0\.5"),
        (HuggingFace({"fine_label": [1, 0]}), "has no column 'label'"),
    ],
)
def test_labels_that_are_not_one_number(listed: Any, dataset: Any, given: str) -> None:
    with pytest.raises(RunError, match=f"some: needs one whole number as the label.*, {given}"):
        listed(dataset)


def photos(root: Path) -> list[Path]:
    """Files that loaders read in different ways: deep, transparent, and large enough to be cut."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 4), np.uint8)
    large = np.kron(pixels, np.ones((60, 60, 1), np.uint8))
    deep = Image.fromarray(large[..., 0].astype(np.uint16) * 200)
    images = {
        "a/deep.png": deep,
        "a/clear.png": Image.fromarray(large),
        "b/large.jpg": Image.fromarray(large[..., :3]),
        "b/small.png": Image.fromarray(pixels[..., :3]),
    }
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    return [root / name for name in sorted(images)]


@pytest.mark.parametrize("kind", ["torch", "hugging face"])
def test_files_are_seen_as_a_delivered_program_sees_them(
    kind: str, listed: Any, tmp_path: Path
) -> None:
    files = photos(tmp_path / "train")
    if kind == "torch":
        listing = list_timm("torch/image_folder", str(tmp_path), "train", "")
    else:
        listing = listed(HuggingFace({"label": [0, 0, 1, 1]}, files))
    assert listing.labels == [0, 0, 1, 1]
    for index, file in enumerate(files):
        seen = to_pixels(listing.read(index)[0], 24, 3, "crop")
        assert np.array_equal(seen, to_pixels(open_image(file), 24, 3, "crop")), file
