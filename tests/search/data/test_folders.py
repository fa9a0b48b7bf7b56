"""Folders are read as a five-line reference says, in every process, whatever their names."""

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.search.data.pictures import folder, picture
from vitpareto.search.config import load_config
from vitpareto.search.data.pixels import UnreadableImage
from vitpareto.search.data.sources import folders, list_images
from vitpareto.search.data.sources.folders import list_folder
from vitpareto.search.data.sources.listing import natural
from vitpareto.spaces.errors import RunError

SPLITS = ("train", "test", "val", "Train", "validation")
RESERVED = (*SPLITS, "con", "1", "01", "a", "A", "é", "e\u0301")
NAMES = st.one_of(
    st.sampled_from(RESERVED),
    st.text("abAB019 _-#é中ß'", min_size=1, max_size=6).map(str.strip).filter(bool),
)
TREES = st.dictionaries(
    NAMES, st.lists(st.lists(NAMES, max_size=2), min_size=1, max_size=3), min_size=2, max_size=6
)


def reference(files: list[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Label and split of every file below a root, by its path."""
    known = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
    known["validation"] = "validation"
    splits = {known.get(f[0].lower()) for f in files}
    inside = [f for f in files if known.get(f[0].lower()) == "train"]
    below = {f[1] for f in inside if len(f) > 2}
    deep = None not in splits and len(below) >= (2 if any(len(f) == 2 for f in inside) else 1)
    if "train" in splits and deep:
        return {f: (f[1], known[f[0].lower()]) for f in files if len(f) > 2}
    return {f: (f[0], "") for f in files}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREES)
def test_random_trees(tree: dict[str, list[list[str]]], tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("tree")
    files = sorted(
        {
            (name, *below, f"{i}.png")
            for name, paths in tree.items()
            for i, below in enumerate(paths)
        }
    )
    for parts in files:
        root.joinpath(*parts).parent.mkdir(parents=True, exist_ok=True)
        root.joinpath(*parts).write_bytes(b"")
    wanted = reference(files)
    try:
        listing = list_folder(root)
    except RunError as error:
        refused = "would both be" in str(error) or "hold the same classes" in str(error)
        assert refused or len({label for label, _ in wanted.values()}) < 2
        return
    listed = {tuple(e.name.split("/")): (e.label, e.split) for e in listing.entries}
    assert listed == wanted
    assert set(listing.class_names) == {label for label, _ in wanted.values()}
    assert list(listing.class_names) == sorted(listing.class_names, key=natural)


def test_labels_are_the_same_in_every_process(tmp_path: Path) -> None:
    for name in ("A", "a", "1", "01", "10", "9", "Äpfel", "train", "b c"):
        picture(tmp_path / name / "deep" / "er" / "x.png", len(name))
    code = (
        "import sys, json, pathlib; from vitpareto.search.data.sources.folders import list_folder;"
        "l = list_folder(pathlib.Path(sys.argv[1]));"
        "print(json.dumps([l.class_names, [[e.name, e.label] for e in l.entries], l.labels]))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(outputs) == 1
    names, _, _ = json.loads(outputs.pop())
    assert names == ["01", "1", "9", "10", "A", "a", "b c", "train", "Äpfel"]


def test_folders_below_a_class_are_part_of_it(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        picture(tmp_path / name / "indoor" / "1.png", 1)
        picture(tmp_path / name / "outdoor" / "2.png", 2)
    listing = list_folder(tmp_path, group_level=1)
    assert listing.class_names == ("cat", "dog")
    assert {(e.label, e.group) for e in listing.entries} == {
        (c, g) for c in ("cat", "dog") for g in ("indoor", "outdoor")
    }


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "VALID", "Test")])
def test_splits_in_any_case(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        folder(tmp_path / name, each=2)
    listing = list_folder(tmp_path)
    assert listing.class_names == ("a", "b")
    assert Counter(e.split for e in listing.entries) == {"train": 4, "validation": 4, "test": 4}


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        folder(tmp_path / name, each=2)
    with pytest.raises(RunError, match="'val' and 'valid' would both be the validation split"):
        list_folder(tmp_path)


@pytest.mark.parametrize("names", [("training", "testing"), ("test", "val")])
def test_splits_under_other_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        folder(tmp_path / name, each=1)
    with pytest.raises(RunError, match="hold the same classes, as splits do: call them train"):
        list_folder(tmp_path)


def test_one_folder_too_many(tmp_path: Path) -> None:
    folder(tmp_path / "photos" / "images", each=1)
    with pytest.raises(RunError, match=r"has 'images'; are the classes in '.*photos/images'\?"):
        list_folder(tmp_path / "photos")
    for name in ("train", "test"):
        folder(tmp_path / "set" / name / "images", each=1)
    with pytest.raises(RunError, match=r"has 'images'; are the classes in '.*set/test/images'\?"):
        list_folder(tmp_path / "set")


def test_splits_below_classes_are_no_splits(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        picture(tmp_path / name / "Train" / "1.png", 1)
        picture(tmp_path / name / "indoor" / "1.png", 1)
    assert list_folder(tmp_path).warnings == ()
    picture(tmp_path / "cat" / "test" / "1.png", 2)
    listing = list_folder(tmp_path)
    assert {entry.split for entry in listing.entries} == {""}
    (warning,) = listing.warnings
    assert warning.startswith("the folders 'Train', 'test' below classes are read as parts")


def test_something_else_beside_splits(tmp_path: Path) -> None:
    for name in ("train", "test"):
        folder(tmp_path / name, each=2)
    folder(tmp_path / "other set", each=1)
    with pytest.raises(RunError, match="hold the same classes, as splits do, but 'other set' is"):
        list_folder(tmp_path)


@pytest.mark.parametrize("classes", [("train", "bus"), ("train", "test")])
def test_a_class_called_train(tmp_path: Path, classes: tuple[str, ...]) -> None:
    for name in classes:
        picture(tmp_path / name / "1.png", 1)
    listing = list_folder(tmp_path)
    assert set(listing.class_names) == set(classes)
    assert re.search(r"'train'.* read as a class", listing.warnings[0])


def test_what_is_no_image_is_counted(tmp_path: Path) -> None:
    folder(tmp_path, each=2)
    for name in ("a/._0.png", "a/.ipynb_checkpoints/0.png", ".git/0.png", "__MACOSX/a/0.png"):
        picture(tmp_path / name, 1)
    for name in ("a/Thumbs.db", "a/notes.txt", "readme", "stray.png", "docs/index.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    listing = list_folder(tmp_path)
    assert listing.class_names == ("a", "b") and len(listing.entries) == 4
    counts = {reason: len(names) for reason, names in listing.skipped.items()}
    assert counts == {
        "hidden or made by the system": 5,
        "in no class folder": 1,
        "no image format: .html": 1,
        "no image format: .txt": 1,
        "no image format: no suffix": 1,
    }
    assert listing.warnings == (
        "without an image that is read, and no class: 2 folders: 'docs', 'empty'",
    )


def test_splits_and_classes_without_an_image_are_named(tmp_path: Path) -> None:
    folder(tmp_path / "train", each=2)
    folder(tmp_path / "test", each=2, classes="a")
    (tmp_path / "test" / "b" / "deeper").mkdir(parents=True)
    (tmp_path / "val").mkdir()
    assert list_folder(tmp_path).warnings == (
        "without an image that is read, and no class: 2 folders: 'test/b', 'val'",
    )


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    folder(tmp_path, each=1)
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    other = folder(tmp_path.parent / f"{tmp_path.name}-elsewhere", each=3, classes="z")
    (tmp_path / "c").symlink_to(other / "z", target_is_directory=True)
    listing = list_folder(tmp_path)
    assert [e.name for e in listing.entries] == [
        "a/0.png",
        "b/0.png",
        "c/0.png",
        "c/1.png",
        "c/2.png",
    ]


@pytest.mark.parametrize("first", ["alias", "b"])
def test_the_order_of_a_file_system_does_not_say_which_folder_is_the_link(
    tmp_path: Path, first: str
) -> None:
    root = tmp_path / "real"
    folder(root, each=1, classes="a")
    for name in dict.fromkeys((first, "b", "alias")):
        if name == "b":
            folder(root, each=1, classes="b")
        else:
            (root / name).symlink_to(root / "b", target_is_directory=True)
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    for path in (root, tmp_path / "link"):
        listing = list_folder(path)
        assert listing.class_names == ("a", "b")
        assert listing.skipped == {"a link to a folder that is read already": ("alias",)}


def test_the_order_of_a_scan_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, each=2, classes="ab")
    for name in ("0", "c"):
        (tmp_path / name).symlink_to(tmp_path / "b", target_is_directory=True)
    scan = folders._scanned
    orders = (sorted, lambda found, key: sorted(found, key=key)[::-1])
    listings = []
    for order in orders:
        monkeypatch.setattr(
            folders, "_scanned", lambda path, o=order: o(scan(path), key=lambda item: item.name)
        )
        listings.append(list_folder(tmp_path))
    assert listings[0].entries == listings[1].entries
    assert listings[0].class_names == listings[1].class_names == ("a", "b")


def test_odd_names_and_links_to_themselves_are_counted(tmp_path: Path) -> None:
    folder(tmp_path, each=1)
    (tmp_path / "a" / "x").symlink_to("x")
    picture(tmp_path / "a" / "x\ry.png", 5)
    odd = 1
    with contextlib.suppress(OSError):  # macOS takes UTF-8 alone
        (tmp_path / "b" / "0.png").rename(tmp_path / "b" / os.fsdecode(b"\xff.png"))
        picture(tmp_path / "b" / "0.png", 6)
        odd = 2
    listing = list_folder(tmp_path)
    assert [e.name for e in listing.entries] == ["a/0.png", "b/0.png"]
    assert len(listing.skipped["a name that is not UTF-8 or holds a line break"]) == odd
    assert listing.skipped["no image format: no suffix"] == ("a/x",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder(tmp_path, each=1)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    listing = list_folder(tmp_path)
    index = [e.name for e in listing.entries].index("a/pipe.png")
    with pytest.raises(UnreadableImage) as caught:
        listing.read(index)
    assert caught.value.reason == "not a file"


def test_a_folder_is_read_once_whatever_the_file_system_lists_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "set", each=1, classes="bc")
    (root / "a").symlink_to("b", target_is_directory=True)
    picture(root / ".store" / "0.png", 5)
    (root / "d").symlink_to(".store", target_is_directory=True)
    (root / "c" / "up").symlink_to(tmp_path, target_is_directory=True)
    (root / ".store" / "loop").symlink_to(root, target_is_directory=True)
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    scan = os.scandir
    for order in (False, True):

        def scandir(path, order=order):
            items = sorted(scan(path), key=lambda item: item.name, reverse=order)
            return contextlib.nullcontext(iter(items))

        monkeypatch.setattr(os, "scandir", scandir)
        for start in (root, tmp_path / "link"):
            listing = list_folder(start)
            assert [e.name for e in listing.entries] == ["b/0.png", "c/0.png", "d/0.png"]
            again = listing.skipped["a link to a folder that is read already"]
            assert again == ("a", "c/up/link", "d/loop")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_links_to_themselves_and_pipes_are_counted(tmp_path: Path) -> None:
    folder(tmp_path, each=1)
    for name in ("self", "self.png"):
        (tmp_path / "a" / name).symlink_to(name)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    listing = list_folder(tmp_path)
    assert listing.skipped == {"no image format: no suffix": ("a/self",)}
    for name, reason in (("a/pipe.png", "not a file"), ("a/self.png", "symbolic links")):
        at = [entry.name for entry in listing.entries].index(name)
        with pytest.raises(UnreadableImage, match=reason):
            listing.read(at)


def test_names_in_another_encoding_are_counted(tmp_path: Path) -> None:
    folder(tmp_path, each=1)
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b/caf\xe9.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system has no such names")
    listing = list_folder(tmp_path)
    assert listing.skipped == {
        "a name that is not UTF-8 or holds a line break": ("b/caf\\udce9.png",)
    }
    assert len(listing.entries) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "data.root: no such folder"),
        (lambda root: root.write_text("x"), r"is a file: .* a table that ends in .csv or"),
        (lambda root: root.mkdir(), "needs folders of two or more classes, has none"),
        (lambda root: folder(root, classes="a"), "has 'a'"),
        (lambda root: picture(root / "x.png", 1), "1 file left out: in no class folder"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, make, message: str) -> None:
    root = tmp_path / "set"
    make(root)
    with pytest.raises(RunError, match=message) as caught:
        list_folder(root)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    folder(tmp_path, each=1)
    (tmp_path / "a").chmod(0)
    with pytest.raises(RunError, match="no permission to read this folder"):
        list_folder(tmp_path)
    (tmp_path / "a").chmod(0o755)


def test_a_root_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", denied)
    monkeypatch.setattr(Path, "exists", denied)
    config = load_config("imagefolder", [f"data.root={tmp_path}"])
    with pytest.raises(RunError, match=r"cannot be reached: Permission denied$"):
        list_images(config.data)
