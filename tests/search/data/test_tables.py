"""Tables of images: every row has its label, and what is wrong with one names its line."""

import os
from pathlib import Path

import pytest

from tests.search.data.pictures import picture
from vitpareto.search.config import DataConfig
from vitpareto.search.data.pixels import UnreadableImage
from vitpareto.search.data.sources import list_images
from vitpareto.search.data.sources.tables import list_table
from vitpareto.spaces.errors import RunError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_splits_and_groups(tmp_path: Path) -> None:
    rows = ("a/1.png,10,x,train,p1", '"b,2.png",9,y,VAL,', "c.png,9,z,,p1")
    text = "\n".join(("\ufeffPath,Label,who,split,group", *rows))
    listing = list_table(write(tmp_path / "set.csv", text))
    assert listing.class_names == ("9", "10")
    assert [(e.name, e.label, e.split, e.group) for e in listing.entries] == [
        ("a/1.png", "10", "train", "p1"),
        ("b,2.png", "9", "validation", ""),
        ("c.png", "9", "", "p1"),
    ]
    picture(tmp_path / "c.png", 7)
    image, digest = listing.read(2)
    assert image.size == (26, 20) and len(digest) == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"columns path, label .* has none"),
        ("file,class\nx,y\n", r"has 'file', 'class'"),
        ("path;label\nx;y\n", r"set.csv: has semicolons between columns: save it with commas"),
        ('"Label"\t"path"\n"x"\t"y"\n', r"has tabs between columns"),
        ("path,label;x\nx,a\n", r"has 'path', 'label;x'"),
        ("path,label\nx,\n", r"line 2: needs a path and a label, got 'x' and ''"),
        ("path,label,split\nx,a,tset\n", r"line 2: no such split 'tset'. Did you mean 'test'"),
        ("path,label\nx,a\ny,b\nx,b\n", r"line 4: 'x' is given twice, first in line 2"),
        ("path,label\nx,a,3\n", r"line 2: more values than columns"),
        ("path,label,Label\nx,a,b\n", r"has the column 'label' twice"),
        ("path,label\nx,a\n", r"two or more classes, has 'a'"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        list_table(write(tmp_path / "set.csv", text))


def test_names_that_are_no_paths(tmp_path: Path) -> None:
    text = "path,label\n~nobody here/1.png,a\nx\0.png,b\n"
    listing = list_table(write(tmp_path / "set.csv", text))
    picture(tmp_path / "~nobody here" / "1.png", 7)
    assert listing.read(0)[0].size == (26, 20)
    with pytest.raises(UnreadableImage, match="not a file"):
        listing.read(1)


@pytest.mark.skipif(os.name == "nt", reason="a backslash separates folders here")
def test_paths_of_windows(tmp_path: Path) -> None:
    listing = list_table(write(tmp_path / "set.csv", "path,label\ncats\\1.png,a\ngone.png,b\n"))
    picture(tmp_path / "cats" / "1.png", 7)
    with pytest.raises(
        UnreadableImage, match=r"no such file or directory \(paths need / instead of"
    ):
        listing.read(0)
    with pytest.raises(UnreadableImage, match=r"no such file or directory$"):
        listing.read(1)
    picture(tmp_path / "cats\\1.png", 7)  # which is a name like others here
    assert listing.read(0)[0].size == (26, 20)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read: No such file"):
        list_table(tmp_path / "set.csv")
    (tmp_path / "set.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(RunError, match="not UTF-8"):
        list_table(tmp_path / "set.csv")


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    files = ["a.png", "b.png"]
    columns = {"path": files, "label": [0, 10], "group": [0, None], "split": ["train", None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "set.parquet")
    text = "path,label,group,split\na.png,0,0,train\nb.png,10,,\n"
    same = list_table(write(tmp_path / "set.csv", text))
    listing = list_table(tmp_path / "set.parquet")
    assert (listing.entries, listing.class_names) == (same.entries, same.class_names)
    numbers = {"path": [b"a.png", b"b.png"], "label": [0, 1], "group": [0, 0]}
    parquet.write_table(pyarrow.table(numbers), tmp_path / "set.parquet")
    entries = list_table(tmp_path / "set.parquet").entries
    assert [(e.name, e.label, e.group) for e in entries] == [
        ("a.png", "0", "0"),
        ("b.png", "1", "0"),
    ]
    floats = {"path": files, "label": [1.0, 2.5], "group": [3.0, None]}
    parquet.write_table(pyarrow.table(floats), tmp_path / "set.parquet")
    entries = list_table(tmp_path / "set.parquet").entries
    assert [(e.label, e.group) for e in entries] == [("1", "3"), ("2.5", "")]
    missing = {"path": ["a.png", "b.png"], "label": [1.0, float("nan")]}
    parquet.write_table(pyarrow.table(missing), tmp_path / "set.parquet")
    with pytest.raises(RunError, match="line 2: needs a path and a label"):
        list_table(tmp_path / "set.parquet")
    several = {"path": files, "label": [["cat", "dog"], ["cat"]]}
    parquet.write_table(pyarrow.table(several), tmp_path / "set.parquet")
    with pytest.raises(RunError, match=r"line 1: needs one label an image, got \['cat', 'dog'\]"):
        list_table(tmp_path / "set.parquet")
    (tmp_path / "set.parquet").write_bytes(b"no table")
    with pytest.raises(RunError, match="cannot be read"):
        list_table(tmp_path / "set.parquet")


def test_a_class_that_a_file_codes_otherwise(tmp_path: Path) -> None:
    table = write(tmp_path / "set.csv", "path,label\nx,caf\u00e9\ny,tea\n")
    file = write(tmp_path / "classes.txt", "cafe\u0301\ntea\n")
    with pytest.raises(RunError, match=r"It holds 'cafe\\u0301', the class is 'caf\\xe9'$"):
        list_images(DataConfig(root=str(table), classes=str(file)))
    write(file, "")
    with pytest.raises(RunError, match="It is empty"):
        list_images(DataConfig(root=str(table), classes=str(file)))


def test_classes_in_the_order_of_a_file(tmp_path: Path) -> None:
    table = write(tmp_path / "set.csv", "path,label\nx,cat\ny,dog\n")
    names = write(tmp_path / "names.txt", "dog\nunicorn\ncat\n")
    listing = list_images(DataConfig(root=str(table), classes=str(names)))
    assert listing.class_names == ("dog", "unicorn", "cat")
    assert listing.labels == [2, 0]
    assert "'unicorn'" in listing.warnings[0]
    write(names, "dog\ncats\n")
    with pytest.raises(RunError, match=r"lacks 1 of the 2 classes .* 'cat'. Did you mean 'cats'"):
        list_images(DataConfig(root=str(table), classes=str(names)))
    write(names, "dog\ncat\ndog\n")
    with pytest.raises(RunError, match="holds 'dog' twice"):
        list_images(DataConfig(root=str(table), classes=str(names)))
