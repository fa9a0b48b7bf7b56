"""What becomes of every image: splits, copies, groups, and files that cannot be read."""

from pathlib import Path
from shutil import copyfile, copytree, rmtree

import numpy as np
import pytest
import torch
from PIL import Image

from tests.search.data.pictures import colors, folder, picture
from vitpareto.search.config import DataConfig
from vitpareto.search.data import planning
from vitpareto.search.data.assignment import check_counts
from vitpareto.search.data.catalog import Catalog
from vitpareto.search.data.loading import catalog_of, load_data
from vitpareto.search.data.overview import overview, overview_lines
from vitpareto.search.data.planning import plan_reading
from vitpareto.search.data.sources import list_images
from vitpareto.search.data.splits import SPLITS
from vitpareto.spaces.errors import RunError


def noise(path: Path, seed: int) -> Path:
    """A picture of blurred noise, which looks like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(path)
    return path


def noisy(root: Path, each: int = 12) -> Path:
    for k, name in enumerate("ab"):
        for i in range(each):
            noise(root / name / f"{i}.png", 1000 * k + i + hash_of(root))
    return root


def hash_of(root: Path) -> int:
    return sum(root.name.encode()) * 10_000


def split_of(catalog: Catalog) -> dict[str, str]:
    return {row.path: row.split for row in catalog.rows}


def test_names_stay_in_one_line_and_copies_are_told_once(tmp_path: Path) -> None:
    root = noisy(tmp_path / "set")
    (root / "a").rename(root / "a\nb")
    for part in ("train", "test"):
        (root / part).mkdir()
        for label in ("a\nb", "b"):
            copytree(root / label, root / part / label)
    for label in ("a\nb", "b"):
        for i in range(12):
            if i < 3:
                (root / "train" / label / f"{i}.png").unlink()
            elif i < 11:
                (root / "test" / label / f"{i}.png").unlink()
        rmtree(root / label)
    lines = overview_lines(overview(catalog_of(DataConfig(root=str(root)), 16, strict=False)))
    assert not any("\n" in line for line in lines)
    assert any(line.startswith(repr("a\nb")) for line in lines)
    told = [line for line in lines if "left out" in line]
    assert len(told) == 1 and "2 images of the data left out" in told[0]


def test_every_image_is_in_one_split_under_its_label(tmp_path: Path) -> None:
    data = load_data(DataConfig(root=str(folder(tmp_path / "set"))), 8)
    assert (data.name, data.class_names, data.in_chans) == ("set", ("a", "b"), 3)
    seen = []
    for name in SPLITS:
        split = data.split(name)
        assert split.images.shape[1:] == (3, 8, 8)
        red = colors(split.images, data)[:, 0]
        assert (red == red[:, :1, :1]).all(), "a plain picture stays plain"
        assert split.labels.equal((red[:, 0, 0] >= 100).long())
        seen += red[:, 0, 0].tolist()
    assert sorted(seen) == [float(100 * k + i) for k in range(2) for i in range(20)]


def test_how_images_are_shown_is_decided_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gray and colored images take turns, and so would those of equal steps be all gray."""
    monkeypatch.setattr(planning, "SAMPLE", 8)
    for i in range(16):
        picture(tmp_path / f"{i}.png", 90 + i, "RGB" if i % 2 else "L")
    table = tmp_path / "set.csv"
    table.write_text("path,label\n" + "".join(f"{i}.png,{'ab'[i // 8]}\n" for i in range(16)))
    assert planning.plan_reading(DataConfig(root=str(table)), 8).look.channels == 3


def test_declared_splits_are_used_for_what_they_are(tmp_path: Path) -> None:
    for name in ("train", "val", "Test"):
        noisy(tmp_path / name)
    catalog = catalog_of(DataConfig(root=str(tmp_path)), 16)
    for path, split in split_of(catalog).items():
        wanted = {"train": ("train", "search"), "val": ("validation",), "Test": ("test",)}
        assert split in wanted[path.split("/")[0]]
    assert sum(catalog.counts("search").values()) == 4


def test_copies_of_test_images_are_trained_on_nowhere(tmp_path: Path) -> None:
    noisy(tmp_path / "train")
    noisy(tmp_path / "test")
    copyfile(tmp_path / "test" / "a" / "3.png", tmp_path / "train" / "a" / "leak.png")
    with Image.open(tmp_path / "test" / "b" / "4.png") as image:
        image.resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "train" / "b" / "near.jpg")
    catalog = catalog_of(DataConfig(root=str(tmp_path)), 16)
    assert split_of(catalog)["train/a/leak.png"] == ""
    assert split_of(catalog)["train/b/near.jpg"] == ""
    assert sum(catalog.counts("test").values()) == 24
    assert {k: v for k, v in catalog.skipped[0].items() if k != "first"} == {
        "reason": "copy of an image of the test split",
        "count": 2,
    }
    assert any("2 images of the data left out" in line for line in catalog.warnings)


def test_copies_and_groups_stay_on_one_side(tmp_path: Path) -> None:
    root = noisy(tmp_path / "set", each=16)
    for i in range(8):
        copyfile(root / "a" / f"{i}.png", root / "a" / f"copy of {i}.png")
    copyfile(root / "a" / "9.png", root / "b" / "wrong.png")
    split = split_of(catalog := catalog_of(DataConfig(root=str(root)), 16))
    assert all(split[f"a/{i}.png"] == split[f"a/copy of {i}.png"] for i in range(8))
    assert split["a/9.png"] == split["b/wrong.png"]
    assert any(
        "under two labels" in line and "'b/wrong.png' is 'b'" in line for line in catalog.warnings
    )
    for name in "ab":
        for i in range(30):
            noise(tmp_path / "people" / name / f"person {i % 10}" / f"{i}.png", i + 500 * ord(name))
    config = DataConfig(root=str(tmp_path / "people"), group_level=1)
    sides: dict[str, set[str]] = {}
    for path, where in split_of(catalog_of(config, 16)).items():
        sides.setdefault(path.split("/")[1], set()).add(where)
    assert len(sides) == 10 and all(len(found) == 1 for found in sides.values())


def test_bars_beside_tall_images_make_no_copies(tmp_path: Path) -> None:
    """Pale images between two gray bars differ in little else, as near copies do."""
    for i in range(24):
        pale = np.random.default_rng(i).normal(210, 4, (6, 2)).repeat(32, 0).repeat(32, 1)
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.uint8(pale)).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    catalog = catalog_of(DataConfig(root=str(tmp_path), fit="pad"), 64)
    assert catalog.facts["duplicates"]["near"]["images"] == 0


def test_groups_that_declared_splits_tear_apart(tmp_path: Path) -> None:
    rows = ["path,label,split,group"]
    for i in range(24):
        noise(tmp_path / f"{i}.png", i)
        rows.append(f"{i}.png,{'ab'[i % 2]},{'test' if i < 6 else 'train'},person {i % 12}")
    (tmp_path / "set.csv").write_text("\n".join(rows))
    catalog = catalog_of(DataConfig(root=str(tmp_path / "set.csv")), 16)
    assert "6 groups lie in several of the declared splits: 'person 0', 'person 1'" in " ".join(
        catalog.warnings
    )


def test_a_group_of_a_declared_split_is_trained_on_nowhere(tmp_path: Path) -> None:
    rows = ["path,label,split,group"]
    for i in range(48):
        noise(tmp_path / f"{i}.png", i)
        rows.append(f"{i}.png,{'ab'[i % 2]},{'test' if i < 6 else ''},{i % 24 // 2}")
    (tmp_path / "set.csv").write_text("\n".join(rows))
    catalog = catalog_of(DataConfig(root=str(tmp_path / "set.csv")), 16)
    out = {row.path for row in catalog.rows if not row.split}
    assert out == {f"{i}.png" for i in range(24, 30)}
    assert catalog.skipped[0]["reason"] == "in a group of the test split"
    assert not any("groups lie" in line for line in catalog.warnings)


def test_a_copy_of_what_is_left_out_is_trained_on_nowhere(tmp_path: Path) -> None:
    """Whoever is in the group of a test image may be known from a copy that has no group."""
    rows = [f"{i}.png,{'ab'[i % 2]},{'test' if i < 4 else ''}," for i in range(40)]
    for i in range(40):
        noise(tmp_path / f"{i}.png", i)
    rows[0] += "person"
    rows[4] += "person"
    copyfile(tmp_path / "4.png", tmp_path / "copy.png")
    copyfile(tmp_path / "copy.png", tmp_path / "again.png")
    noise(tmp_path / "beside.png", 99)
    rows += ["copy.png,a,,", "again.png,a,,other", "beside.png,a,,other", "9.png,b,train,person"]
    rows.remove("9.png,b,,")
    (tmp_path / "set.csv").write_text("\n".join(["path,label,split,group", *rows]))
    catalog = catalog_of(DataConfig(root=str(tmp_path / "set.csv")), 16)
    out = {row.path for row in catalog.rows if not row.split}
    assert out == {"4.png", "copy.png", "again.png", "beside.png"}
    assert split_of(catalog)["9.png"] in ("train", "search", "validation"), "as declared"


def test_a_declared_split_of_which_nothing_is_left_is_said(tmp_path: Path) -> None:
    noisy(tmp_path / "set" / "train", each=40)
    for name in "ab":
        broken = tmp_path / "set" / "test" / name / "x.png"
        broken.parent.mkdir(parents=True)
        broken.write_bytes(b"")
    catalog = catalog_of(DataConfig(root=str(tmp_path / "set")), 16)
    assert "no image of the test split is left" in " ".join(catalog.warnings)


def test_a_share_of_a_split_that_the_images_bring_is_told_to_be_unused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    noisy(root / "train")
    noisy(root / "validation", 3)
    asked = DataConfig(root=str(root), validation=0.35, test=0.2)
    (line,) = [w for w in catalog_of(asked, 16).warnings if "is not used" in w]
    assert line.startswith("data.validation 0.35 is not used")
    silent = catalog_of(DataConfig(root=str(root), test=0.2), 16).warnings
    assert not [w for w in silent if "is not used" in w]


def test_one_gray_file_that_comes_first_decides_nothing(tmp_path: Path) -> None:
    folder(tmp_path)
    picture(tmp_path / "a" / "0.png", 5, mode="L")
    assert catalog_of(DataConfig(root=str(tmp_path)), 8).look.channels == 3
    gray = folder(tmp_path / "gray", mode="L")
    assert load_data(DataConfig(root=str(gray)), 8).in_chans == 1
    assert load_data(DataConfig(root=str(gray), channels=3), 8).in_chans == 3


def test_files_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "a" / "3.png").write_bytes(b"no picture")
    whole = (tmp_path / "b" / "4.png").read_bytes()
    (tmp_path / "b" / "4.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b" / "5.png").write_bytes(b"")
    config = DataConfig(root=str(tmp_path), broken=0.1)
    catalog = catalog_of(config, 8)
    assert {row["reason"]: row["first"] for row in catalog.skipped} == {
        "damaged": ["b/4.png"],
        "empty file": ["b/5.png"],
        "not an image": ["a/3.png"],
    }
    data = load_data(config, 8)
    assert sum(len(data.split(name)) for name in SPLITS) == 37
    with pytest.raises(RunError, match=r"3 of 40 .* cannot be read .*'a/3.png'.* share of 0.01"):
        load_data(config.model_copy(update={"broken": 0.01}), 8)


def test_nothing_can_be_read(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(RunError, match=r"no image can be read: 3 of 3 .*3 not an image"):
        catalog_of(DataConfig(root=str(tmp_path)), 8)


def test_a_class_that_is_lost(tmp_path: Path) -> None:
    folder(tmp_path, each=60)
    for i in range(3):
        (tmp_path / "c").mkdir(exist_ok=True)
        (tmp_path / "c" / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(RunError, match="no image of 'c' can be read"):
        catalog_of(DataConfig(root=str(tmp_path)), 8)
    lenient = catalog_of(DataConfig(root=str(tmp_path)), 8, strict=False)
    assert "a search would stop: no image of 'c' can be read" in lenient.warnings


def test_classes_that_are_in_the_test_split_alone(tmp_path: Path) -> None:
    noisy(tmp_path / "train")
    noise(tmp_path / "test" / "c" / "1.png", 1)
    with pytest.raises(RunError, match="nothing to learn 'c' from"):
        catalog_of(DataConfig(root=str(tmp_path)), 16)


def test_a_class_in_other_letters(tmp_path: Path) -> None:
    noisy(tmp_path / "train")
    for i in range(4):
        noise(tmp_path / "test" / "A" / f"{i}.png", i)
    lenient = catalog_of(DataConfig(root=str(tmp_path)), 16, strict=False)
    assert lenient.warnings[:2] == [
        "a search would stop: there is nothing to learn 'A' from in the train split; 'a' is there, "
        "'A' is not",
        "classes of their own, that differ in case or in how letters are coded: 'A' and 'a'",
    ]


def test_a_class_that_the_test_split_lacks(tmp_path: Path) -> None:
    noisy(tmp_path / "train")
    noise(tmp_path / "test" / "a" / "1.png", 1)
    warnings = catalog_of(DataConfig(root=str(tmp_path)), 16).warnings
    assert "the test split of the data has no image of 'b'" in warnings


def test_too_few_images(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", each=3)
    with pytest.raises(RunError, match="class 'a' has too few images for the search split"):
        load_data(DataConfig(root=str(root)), 8)


def test_a_limit_takes_the_same_number_of_each_class(tmp_path: Path) -> None:
    data = load_data(DataConfig(root=str(folder(tmp_path)), limit=24), 8)
    total = torch.cat([data.split(name).labels for name in SPLITS])
    assert total.bincount().tolist() == [12, 12]


def test_a_limit_that_leaves_too_few(tmp_path: Path) -> None:
    config = DataConfig(root=str(folder(tmp_path)), limit=3)
    with pytest.raises(RunError, match=r"1 in all: data\.limit=3 leaves no more"):
        check_counts(config, plan_reading(config, 8).listing)


def test_data_sets_that_timm_does_not_have() -> None:
    with pytest.raises(RunError, match="torch/nothing"):
        load_data(DataConfig(name="torch/nothing"), 8)


@pytest.mark.parametrize("name", ["imagefolder", "imagenet", "digit", "Folder", "", "my/photos"])
def test_names_that_timm_would_take_for_a_folder(tmp_path: Path, name: str) -> None:
    """Its labels would be the innermost folders, indoor and outdoor."""
    for label in ("cat", "dog"):
        folder(tmp_path / "train" / label, each=2, classes=("indoor", "outdoor"))
    with pytest.raises(RunError, match=r"data\.name: need digits, folder"):
        list_images(DataConfig(name=name, root=str(tmp_path)))


def test_a_root_means_a_folder() -> None:
    assert DataConfig(root="photos").name == "folder"
    assert DataConfig(name="digits", root="photos").name == "folder"
