"""Duplicates: images of a set that show the same picture, byte for byte or nearly so.

Near duplicates are copies in another size, format or quality, a little brighter or darker, or with
a rim of one or two hundredths cut off. A mirrored or turned copy counts as another picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..console import progress

SIDE = 32  # of a print in pixels, what pHash starts from
# Chosen by looking at pairs of phone photos and of CIFAR-10: beyond either bound, other garments of
# the same cut before the same wall become frequent, within both they were not seen.
BITS = 6  # of 64, in which the pHashes of near duplicates differ at most
ALIKE = 0.95  # least correlation of their prints at half the side
FLAT = 4.0  # standard deviation in gray levels, below which a print has nothing to compare

_ONES = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Images that show the same picture, as sorted groups of their indices.

    Attributes:
        exact: groups of equal files.
        near: groups of different files; equal ones among them are members too.
        group: number of every image's group (N,), where an image that has no duplicate is a group
            of its own; to be kept together in a split.
    """

    exact: list[tuple[int, ...]]
    near: list[tuple[int, ...]]
    group: NDArray[np.intp]


def fingerprint(image: Image.Image) -> NDArray[np.uint8]:
    """A gray thumbnail (32, 32) of an image, upright and squashed, as pHash makes it."""
    upright = ImageOps.exif_transpose(image)
    return np.asarray(upright.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def digest(data: bytes) -> str:
    """Name of a file's content, the same for equal files alone."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def find_duplicates(prints: NDArray[np.uint8], digests: Sequence[str]) -> Duplicates:
    """Groups of images that show the same picture, whatever the order of the images.

    Args:
        prints: `fingerprint` of every image (N, 32, 32).
        digests: `digest` of every image's file (N,).
    """
    # In the order of digests, which images in another order have too.
    _, first, content = np.unique(np.array(digests, str), return_index=True, return_inverse=True)
    picture = _pictures(prints, first)[content]
    near = [members for members in _groups(picture) if len(set(content[list(members)])) > 1]
    _, first, group = np.unique(picture, return_index=True, return_inverse=True)
    return Duplicates(list(_groups(content)), near, np.argsort(np.argsort(first))[group])


def _groups(labels: NDArray[np.intp]) -> Iterable[tuple[int, ...]]:
    """Indices of each label that occurs more than once, in the order of their first ones."""
    order = np.argsort(labels, kind="stable")
    ends = np.flatnonzero(np.diff(labels[order])) + 1
    members = (tuple(part.tolist()) for part in np.split(order, ends))
    return sorted(group for group in members if len(group) > 1)


def _pictures(prints: NDArray[np.uint8], which: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each of some images, the position of the first one among them that shows its picture.

    All members of a group resemble its first one. Groups that grow from member to member would
    end in a single one where many images are alike, such as scans.
    """
    bits = np.zeros((len(which), 64), bool)
    free = np.zeros(len(which), bool)  # in no group yet, and not flat
    with progress(len(which), "hashing", "image") as bar:
        for position, index in enumerate(which):
            bits[position] = imagehash.phash(Image.fromarray(prints[index])).hash.ravel()
            free[position] = prints[index].std() >= FLAT
            bar.update()
    words = np.packbits(bits, axis=1).view(np.uint16)
    # Hashes that differ in six bits agree in at least one of seven parts.
    tables = [_table(bits[:, part :: BITS + 1]) for part in range(BITS + 1)]
    picture = np.arange(len(which))
    for i in picture.tolist():
        if not free[i]:
            continue
        free[i] = False
        near = np.concatenate(
            [order[ends[key[i]] : ends[key[i] + 1]] for key, order, ends in tables]
        )
        near = near[free[near]]
        near = np.unique(near[_ONES[words[near] ^ words[i]].sum(1) <= BITS])
        near = near[_correlation(prints[which[near]], prints[which[i]]) >= ALIKE]
        picture[near] = i
        free[near] = False
    return picture


def _table(bits: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows by their bits (N, B): the key of every row, rows sorted by key, and where keys end."""
    key = bits @ (1 << np.arange(bits.shape[1]))
    order = np.argsort(key, kind="stable")
    return key, order, np.searchsorted(key[order], np.arange((1 << bits.shape[1]) + 1))


def _correlation(prints: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Correlation of prints (M, 32, 32) with one (32, 32): brightness and contrast do not count."""
    ours, theirs = _standard(prints), _standard(other[None])[0]
    return ours @ theirs / len(theirs)


def _standard(prints: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Prints at half the side, with mean 0 and deviation 1 (M, 256)."""
    half = SIDE // 2
    pixels = prints.reshape(-1, half, 2, half, 2).mean((2, 4), dtype=np.float32)
    pixels = pixels.reshape(-1, half * half)
    pixels -= pixels.mean(1, keepdims=True)
    return pixels / pixels.std(1, keepdims=True)
