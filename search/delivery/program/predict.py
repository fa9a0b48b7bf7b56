"""Classify images with the model that lies beside this file.

A line for each image, separated by tabs: its path, the likeliest class and its probability, then
the next ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from ...data.decoding import Unreadable, lacking_suffixes, open_image, suffixes, to_pixels
from .onnxruntime import MODEL, NEEDS, open_model

THREADS = 1
PROVIDER = "CPUExecutionProvider"
OLDEST_PILLOW = 11, 3  # earlier ones read some files otherwise
TOP = 3  # classes that a line names
MANIFEST = "manifest.json"
EXAMPLES = """examples:
  python predict.py photo.jpg              the three likeliest classes
  python predict.py photos --csv -k 1      a folder and all below it, for a spreadsheet
  python predict.py photos --json | jq     an object a line, for a program
  python predict.py photos --evaluate      photos/CLASS/...: how many are right"""

Array = NDArray[np.float32]
Shares = NDArray[np.float64]


class Seen(NamedTuple):
    """An image: its file, the class that its folder names if that is asked for, and its tensor."""

    file: Path
    label: str
    tensor: Array


class Answer(NamedTuple):
    """An answer about an image: its file, its label, and the probability of each class."""

    file: Path
    label: str
    shares: Shares


def tensor(file: Path, about: dict[str, Any]) -> Array:
    """Input of the network for an image: (C, S, S).

    Args:
        file: of the image.
        about: what the model's file says of its input.

    Raises:
        Unreadable: the image cannot be read.
    """
    image = about.get("image", {"size": about["input_size"], "fit": "crop"})
    pixels = to_pixels(open_image(file), image["size"], len(about["mean"]), image["fit"])
    mean, std = (np.array(about[key], np.float32)[:, None, None] for key in ("mean", "std"))
    normalized: Array = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return resized(normalized, about["input_size"])


def resized(image: Array, size: int) -> Array:
    """A tensor (C, S, S) at another size, bilinear and antialiased, by the weights of torch."""
    count, one, half = image.shape[-1], np.float32(1), np.float32(0.5)
    if count == size:
        return image
    scale = np.float32(count) / np.float32(size)
    reach = max(scale, one)
    centers = scale * (np.arange(size, dtype=np.float32)[:, None] + half)
    index = np.arange(count, dtype=np.float32)
    weights = (one - np.abs((index - centers + half) * (one / reach))).clip(0)
    first, after = np.trunc(centers - reach + half), np.trunc(centers + reach + half)
    weights = np.where((index >= first) & (index < after), weights, 0).astype(np.float64)
    weights /= weights.sum(1, keepdims=True)
    return (weights @ image @ weights.T).astype(np.float32)


def files_of(path: Path) -> list[Path]:
    """Images of a folder and of those in it, without hidden ones; any other path is an image.

    Raises:
        Unreadable: a folder without images.
    """
    if not path.is_dir():
        return [path]
    known = suffixes() | lacking_suffixes().keys()
    every = (Path(folder, name) for folder, names in walked(path) for name in names)
    inside = (file for file in every if file.suffix.lower() in known and file.is_file())
    found = sorted(f for f in inside if not any(p[0] == "." for p in f.relative_to(path).parts))
    if not found:
        raise Unreadable("no images in this folder")
    return found


def walked(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders in a folder with the names of their files; behind links, too, but each once."""
    seen = set[str]()
    for folder, inner, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inner.clear()  # a link to a folder above it
            continue
        seen.add(real)
        yield folder, names


def label_of(path: Path, file: Path, names: Sequence[str]) -> str:
    """The class that a folder of an image is named as.

    Args:
        path: of the command line; its own name counts, folders above it do not.
        file: path itself, or in it.
        names: of the classes.

    Raises:
        Unreadable: no folder is named as a class, or several are, as different ones.
    """
    top = path if path.is_dir() else path.parent
    folders = (top.resolve().name, *file.relative_to(top).parent.parts)
    found = list(dict.fromkeys(folder for folder in folders if folder in names))
    if len(found) == 1:
        return found[0]
    if found:
        raise Unreadable(f"in folders of several classes: {', '.join(found)}")
    raise Unreadable("in no folder that is named as a class")


def images(
    paths: Sequence[Path], about: dict[str, Any], labeled: bool, failed: list[Path]
) -> Iterator[Seen]:
    """All images that can be read; others are a line on standard error each, and in `failed`."""

    def skip(path: Path, error: Exception) -> None:
        sys.stderr.write(f"{path}: {error}\n")
        failed.append(path)

    for path in paths:
        try:
            files = files_of(path)
        except (Unreadable, OSError) as error:
            skip(path, error)
            continue
        for file in files:
            try:
                label = label_of(path, file, about["class_names"]) if labeled else ""
                yield Seen(file, label, tensor(file, about))
            except Unreadable as error:
                skip(file, error)


def answers(run: Callable[[Array], Array], batch: int, seen: Iterator[Seen]) -> Iterator[Answer]:
    """Answers of a model that takes so many images at once."""
    while waiting := list(islice(seen, batch)):
        stacked = [image.tensor for image in waiting]
        stacked += stacked[-1:] * (batch - len(stacked))
        for image, row in zip(waiting, run(np.stack(stacked)).astype(np.float64), strict=False):
            shares = np.exp(row - row.max())
            yield Answer(image.file, image.label, shares / shares.sum())


def likeliest(shares: Shares, names: Sequence[str], count: int) -> list[tuple[str, float]]:
    """The likeliest classes with their probabilities."""
    best: list[int] = np.argsort(-shares, kind="stable")[:count].tolist()
    return [(names[i], float(shares[i])) for i in best]


def write_text(answered: Iterable[Answer], names: Sequence[str], count: int) -> None:
    """Write lines for people."""
    for file, label, shares in answered:
        best = [f"{name}\t{share:.3f}" for name, share in likeliest(shares, names, count)]
        sys.stdout.write("\t".join([str(file), *[label] * bool(label), *best]) + "\n")


def write_json(answered: Iterable[Answer], names: Sequence[str], count: int) -> None:
    """Write an object a line."""
    for file, label, shares in answered:
        best = likeliest(shares, names, count)
        classes = [{"class": name, "probability": round(share, 6)} for name, share in best]
        about = {"path": str(file)} | ({"label": label} if label else {}) | {"classes": classes}
        sys.stdout.write(json.dumps(about) + "\n")


def write_csv(answered: Iterable[Answer], names: Sequence[str], count: int) -> None:
    """Write comma-separated values, the names of the columns first."""
    to = csv.writer(sys.stdout, lineterminator="\n")
    for number, (file, label, shares) in enumerate(answered):
        best = likeliest(shares, names, count)
        if number == 0:
            ends = ["", *(f"_{i + 1}" for i in range(1, len(best)))]
            columns = [f"{column}{end}" for end in ends for column in ("class", "probability")]
            to.writerow(["path", *["label"] * bool(label), *columns])
        values = [value for name, share in best for value in (name, f"{share:.6f}")]
        to.writerow([file, *[label] * bool(label), *values])


def counted(
    answered: Iterable[Answer], names: Sequence[str], right: Counter[str], asked: Counter[str]
) -> Iterator[Answer]:
    """The same answers, while those that are right, and all, are counted by class."""
    for answer in answered:
        asked[answer.label] += 1
        right[answer.label] += names[int(np.argmax(answer.shares))] == answer.label
        yield answer


def summary(right: Counter[str], asked: Counter[str]) -> str:
    """Accuracy, and the mean recall of the classes, where the images of some may be few."""
    if not asked:
        return "no image was evaluated"
    balanced = sum(right[label] / count for label, count in asked.items()) / len(asked)
    share = right.total() / asked.total()
    return (
        f"accuracy {share:.1%}: {right.total()} of {asked.total()} images are right; mean recall "
        f"of {len(asked)} classes {balanced:.1%}"
    )


def status(folder: Path) -> str:
    """What is known of the model here, from the manifest beside it."""
    try:
        return str(json.loads((folder / MANIFEST).read_bytes())["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"whether it was verified is not known: {MANIFEST}, which tells, is not beside it"


def parser(folder: Path) -> argparse.ArgumentParser:
    """The command line."""
    about = f"Classify images with {MODEL}, which lies beside this file."
    needs = f"Needs {NEEDS}, numpy and pillow 11.3 or later; and pillow-heif for HEIC."
    known = textwrap.fill(f"The model: {status(folder)}.", 79, break_on_hyphens=False)
    made = argparse.ArgumentParser(
        prog="predict.py",
        description=about + (__doc__ or "").partition("\n")[2].rstrip(),
        epilog=f"{EXAMPLES}\n\n{needs}\nExit status: 0, or 1 if any image was not read.\n\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="an image, or a folder of images")
    add("-k", "--top", type=positive, default=TOP, help=f"classes to name, {TOP} by default")
    add(
        "--threads",
        type=positive,
        default=THREADS,
        help=f"of the runtime, {THREADS} by default, with which it is delivered",
    )
    form = made.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="an object a line")
    form.add_argument("--csv", action="store_true", help="comma-separated values, with a header")
    add(
        "--evaluate",
        action="store_true",
        help="folders are named as classes: a column with the label, and accuracy on stderr",
    )
    return made


def positive(text: str) -> int:
    """A whole number above 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"need a whole number above 0, got {text!r}")
    return int(text)


def main() -> int:
    """Classify the images of the command line; 1 if any could not be read."""
    for stream in (sys.stdout, sys.stderr):  # names that the terminal cannot show
        getattr(stream, "reconfigure")(errors="backslashreplace")  # noqa: B009
    path = Path(__file__).with_name(MODEL)
    asked = parser(path.parent).parse_args()
    if tuple(map(int, PIL.__version__.split(".")[:2])) < OLDEST_PILLOW:
        sys.stderr.write(f"needs pillow 11.3, has {PIL.__version__}: pip install -U pillow\n")
        return 1
    try:
        about, batch, run = open_model(path, PROVIDER, asked.threads)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        sys.stderr.write(f"needs {package}: pip install {NEEDS} numpy pillow\n")
        return 1
    except Exception as error:  # the errors of runtimes share no other base
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        sys.stderr.write(f"{path}: cannot be opened: {first}\n")
        return 1
    names, failed = about["class_names"], list[Path]()
    right, total = Counter[str](), Counter[str]()
    seen = images(asked.images, about, asked.evaluate, failed)
    answered = counted(answers(run, batch, seen), names, right, total)
    write = write_json if asked.json else write_csv if asked.csv else write_text
    try:
        write(answered, names, asked.top)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the lines has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if asked.evaluate:
        sys.stderr.write(f"{summary(right, total)}\n")
    return min(1, len(failed))


if __name__ == "__main__":
    sys.exit(main())
