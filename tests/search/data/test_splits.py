from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitpareto.search.config import DataConfig
from vitpareto.search.data.augment import augmented, draws
from vitpareto.search.data.loading import load_data
from vitpareto.search.data.splits import SPLITS, check_splits, split_by_class
from vitpareto.spaces import UnknownNameError
from vitpareto.spaces.errors import RunError


def test_splits_are_apart_stratified_and_complete() -> None:
    labels = torch.arange(1000) % 10
    parts = split_by_class(labels, {"search": 0.2, "validation": 0.1, "test": 0.1}, seed=3)
    together = torch.cat(list(parts.values()))
    assert together.sort().values.equal(torch.arange(1000))
    assert {name: len(index) for name, index in parts.items()} == {
        "train": 600,
        "search": 200,
        "validation": 100,
        "test": 100,
    }
    for index in parts.values():
        assert labels[index].bincount().unique().numel() == 1
    again = split_by_class(labels, {"search": 0.2, "validation": 0.1, "test": 0.1}, seed=3)
    assert all(parts[name].equal(again[name]) for name in parts)


def test_too_few_images_of_a_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 3)
    parts = split_by_class(labels, {"search": 0.2, "validation": 0.2, "test": 0.2}, seed=0)
    assert sum(map(len, parts.values())) == 53
    with pytest.raises(RunError, match="class 1 has too few images for the search split, 3 in all"):
        check_splits(labels, parts)


def test_a_small_class_is_in_every_split() -> None:
    labels = torch.tensor([0] * 50 + [1] * 4)
    parts = split_by_class(labels, {"search": 0.17, "validation": 0.17, "test": 0.17}, seed=0)
    check_splits(labels, parts)
    assert all((labels[index] == 1).sum() == 1 for index in parts.values())


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=80),
    groups=st.lists(st.integers(0, 9), min_size=80, max_size=80),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_groups_stay_together(labels: list[int], groups: list[int], seed: int) -> None:
    """Every image is in one split, and all of its group are in it, too."""
    group = torch.tensor(groups[: len(labels)])
    shares = {"search": 0.2, "validation": 0.2, "test": 0.2}
    parts = split_by_class(torch.tensor(labels), shares, seed, group)
    assert torch.cat([*parts.values()]).sort().values.equal(torch.arange(len(labels)))
    where: dict[int, set[str]] = {}
    for part, index in parts.items():
        for i in index.tolist():
            where.setdefault(groups[i], set()).add(part)
    assert all(len(found) == 1 for found in where.values())


@given(
    sizes=st.lists(st.integers(1, 30), min_size=4, max_size=20),
    shares=st.lists(st.floats(0.01, 0.32), min_size=3, max_size=3),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_as_many_groups_as_splits_suffice(sizes: list[int], shares: list[float], seed: int) -> None:
    """Also where one of them, such as copies of one picture, is larger than all others."""
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = torch.zeros(len(groups), dtype=torch.long)
    parts = split_by_class(labels, dict(zip(SPLITS[1:], shares, strict=True)), seed, groups)
    check_splits(labels, parts)


def test_groups_that_are_larger_than_a_split() -> None:
    labels = torch.tensor([0] * 20 + [1] * 20)
    groups = torch.arange(40) // 4  # five of each class, of which a split has room for three images
    parts = split_by_class(labels, dict.fromkeys(SPLITS[1:], 0.17), 0, groups)
    check_splits(labels, parts)
    assert [len(index) for index in parts.values()] == [16, 8, 8, 8]
    mixed = torch.arange(40) % 5  # each group has images of both classes
    parts = split_by_class(labels, dict.fromkeys(SPLITS[1:], 0.17), 0, mixed)
    check_splits(labels, parts)


def test_shares_that_leave_nothing() -> None:
    with pytest.raises(RunError, match="no image is left to train on"):
        split_by_class(torch.zeros(9), {"search": 0.5, "test": 0.5}, seed=0)


def test_digits_are_normalized_by_the_train_split() -> None:
    data = load_data(DataConfig(), 32)
    images = data.split("train").images
    assert images.shape[1:] == (1, 32, 32)
    assert abs(images.mean().item()) < 1e-5
    assert abs(images.std().item() - 1) < 1e-3
    assert data.class_names == tuple("0123456789")
    assert len({len(data.split(name)) for name in SPLITS[:3]}) > 1


def test_the_test_split_is_read_once(tmp_path: Path) -> None:
    seal = tmp_path / "seal.json"
    data = load_data(DataConfig(), 8, seal)
    data.split("test")
    with pytest.raises(RunError, match="already read at"):
        data.split("test")
    other_process = load_data(DataConfig(), 8, seal)
    with pytest.raises(RunError, match="already read at"):
        other_process.split("test")
    other_process.split("test", force=True)
    assert seal.read_text().count('"forced": true') == 1
    assert seal.read_text().count('"forced": false') == 1


def test_unknown_split() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'validation'"):
        load_data(DataConfig(), 8).split("valid")


def test_views_repeat_and_stay_close() -> None:
    images = load_data(DataConfig(), 32).split("search").images
    views = augmented(images, draws(len(images), seed=1))
    assert views.equal(augmented(images, draws(len(images), seed=1)))
    assert not views.equal(augmented(images, draws(len(images), seed=2)))
    moved = (views - images).abs().mean()
    strangers = (images.roll(1, 0) - images).abs().mean()
    assert 0 < moved < 0.7 * strangers
