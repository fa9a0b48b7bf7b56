"""Classify images with model.onnx, which lies beside this file.

    python predict.py photo.jpg folder

A line for each image: its path, the likeliest class and its probability, then the next two.
Needs onnxruntime, numpy and pillow 11.3 or later; and pillow-heif for HEIC.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from ..data.decoding import Unreadable, lacking_suffixes, open_image, suffixes, to_pixels

MODEL = "model.onnx"
THREADS = 1
PROVIDER = "CPUExecutionProvider"
OLDEST_PILLOW = 11, 3  # earlier ones read some files otherwise
TOP = 3  # classes that a line names

Array = NDArray[np.float32]


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
    inside = (file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
    found = sorted(f for f in inside if not any(p[0] == "." for p in f.relative_to(path).parts))
    if not found:
        raise Unreadable("no images in this folder")
    return found


def open_model(path: Path) -> Any:
    """A session with the threads and the provider that were measured."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.log_severity_level = 3  # errors
    wanted = dict.fromkeys((PROVIDER, "CPUExecutionProvider"))
    here = [name for name in wanted if name in onnxruntime.get_available_providers()]
    return onnxruntime.InferenceSession(str(path), options, providers=here)


def lines(
    session: Any, names: Sequence[str], waiting: Sequence[tuple[Path, Array]]
) -> Iterator[str]:
    """A line for each image; no more images than the model takes at once."""
    (asked,) = session.get_inputs()
    images = [image for _, image in waiting]
    images += images[-1:] * (asked.shape[0] - len(images))
    (logits,) = session.run(None, {asked.name: np.stack(images)})
    for (file, _), row in zip(waiting, logits.astype(np.float64), strict=False):
        shares = np.exp(row - row.max())
        shares /= shares.sum()
        best = np.argsort(-shares, kind="stable")[:TOP]
        yield "\t".join([str(file), *(f"{names[i]}\t{shares[i]:.3f}" for i in best)]) + "\n"


def classify(session: Any, paths: Sequence[Path]) -> int:
    """Print a line for each image; how many could not be read, each a line on stderr."""
    about = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    batch = session.get_inputs()[0].shape[0]
    failed, waiting = 0, list[tuple[Path, Array]]()
    for path in paths:
        files = [path]
        try:
            files = files_of(path)
        except (Unreadable, OSError) as error:
            sys.stderr.write(f"{path}: {error}\n")
            files, failed = [], failed + 1
        for file in files:
            try:
                waiting.append((file, tensor(file, about)))
            except Unreadable as error:
                sys.stderr.write(f"{file}: {error}\n")
                failed += 1
            if len(waiting) == batch:
                sys.stdout.writelines(lines(session, about["class_names"], waiting))
                waiting.clear()
    if waiting:
        sys.stdout.writelines(lines(session, about["class_names"], waiting))
    sys.stdout.flush()
    return failed


def main() -> int:
    """Classify the images of the command line; 1 if any could not be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    help_text = "an image, or a folder with images"
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help=help_text)
    paths: list[Path] = parser.parse_args().images
    for stream in (sys.stdout, sys.stderr):  # names that the terminal cannot show
        getattr(stream, "reconfigure")(errors="backslashreplace")  # noqa: B009
    if tuple(map(int, PIL.__version__.split(".")[:2])) < OLDEST_PILLOW:
        sys.stderr.write(f"needs pillow 11.3, has {PIL.__version__}: pip install -U pillow\n")
        return 1
    path = Path(__file__).with_name(MODEL)
    try:
        session = open_model(path)
    except Exception as error:  # ONNX Runtime's errors share no other base
        sys.stderr.write(f"{path}: cannot be opened: {str(error).splitlines()[0]}\n")
        return 1
    try:
        return min(1, classify(session, paths))
    except BrokenPipeError:  # whoever read the lines has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
