"""Duplicates: images of a set that show the same picture, byte for byte or nearly so.

Near duplicates are copies in another size, format or quality, in other colors, a little brighter or
darker, or with a narrow rim cut off. A mirrored or turned copy counts as another picture, and so
does any near copy of a flat one, say of a blank page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..console import progress

SIDE = 32  # of a print in pixels, what pHash starts from
# Chosen by looking at pairs: just beyond, phone photos of other garments before the same wall
# appear; within, all of 80 pairs from CIFAR-10 were one picture.
BITS = 8  # of 64, in which the pHashes of near duplicates differ at most
ALIKE = 0.9  # least correlation of details
FLAT = 4.0  # standard deviation in gray levels, below which a print has nothing to compare
BATCH = 64  # prints compared at once

_ONES = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)
_NEXT = np.eye(SIDE, k=-1) + 2 * np.eye(SIDE) + np.eye(SIDE, k=1)
_BLUR = (_NEXT / _NEXT.sum(1, keepdims=True)).astype(np.float32)


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


def find_duplicates(prints: NDArray[np.uint8], digests: Sequence[str]) -> Duplicates:
    """Groups of images that show the same picture, whatever the order of the images.

    Args:
        prints: `fingerprint` of every image (N, 32, 32).
        digests: digest of every image's content (N,).
    """
    # Contents in the order of their digests, which does not depend on the order of the images.
    _, first, content = np.unique(np.array(digests, str), return_index=True, return_inverse=True)
    picture = _pictures(prints, first)[content]
    near = [members for members in _groups(picture) if len(set(content[list(members)])) > 1]
    return Duplicates(_groups(content), near, np.unique(picture, return_inverse=True)[1])


def _groups(labels: NDArray[np.intp]) -> list[tuple[int, ...]]:
    """Indices of each label that occurs more than once, in the order of their first ones."""
    order = np.argsort(labels, kind="stable")
    ends = np.flatnonzero(np.diff(labels[order])) + 1
    members = (tuple(part.tolist()) for part in np.split(order, ends))
    return sorted(group for group in members if len(group) > 1)


def _pictures(prints: NDArray[np.uint8], which: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each of some images, the position of the first one among them that shows its picture.

    All others resemble that first one. Groups that grow from member to member would end up as a
    single one where many images are alike, such as scans.
    """
    bits = np.zeros((len(which), 64), bool)
    free = np.zeros(len(which), bool)  # in no group yet, and not flat
    with progress(len(which), "hashing", "image") as bar:
        for position, index in enumerate(which):
            bits[position] = imagehash.phash(Image.fromarray(prints[index])).hash.ravel()
            free[position] = prints[index].std() >= FLAT
            bar.update()
    words = np.packbits(bits, axis=1).view(np.uint16)
    # Where eight bits of two hashes differ, one of five parts differs in a single bit or none.
    parts = BITS // 2 + 1
    tables = [_table(bits[:, part::parts]) for part in range(parts)]
    picture = np.arange(len(which))
    with progress(len(which), "comparing", "image") as bar:
        for i in picture.tolist():
            bar.update()
            if not free[i]:
                continue
            free[i] = False
            near = np.concatenate([rows[ends[k[i]] : ends[k[i] + 1]] for k, rows, ends in tables])
            near = near[free[near]]  # several times those that agree in several parts
            apart = _ONES[words[near] ^ words[i]].sum(1, dtype=np.uint8)
            near = near[np.argsort(apart, kind="stable")[: (apart <= BITS).sum()]]
            for start in range(0, len(near), BATCH):
                some = near[start : start + BATCH]
                alike = some[_likeness(prints[which[some]], prints[which[i]]) >= ALIKE]
                if not len(alike):  # nor will those be whose hashes differ more
                    break
                picture[alike] = i
                free[alike] = False
    return picture


def _table(bits: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows by their bits (N, B): every row's key, and rows in the order of the keys they go under.

    A row goes under its own key and those that differ from it in one bit; the rows of key `k` are
    from the third array's `k` up to its `k + 1`.
    """
    count = bits.shape[1]
    key = bits @ (1 << np.arange(count))
    under = (key[:, None] ^ np.array([0, *(1 << np.arange(count))])).ravel()
    order = np.argsort(under, kind="stable")
    ends = np.searchsorted(under[order], np.arange((1 << count) + 1))
    return key, order // (count + 1), ends


def _likeness(prints: NDArray[np.uint8], model: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Correlation of details of prints (M, 32, 32) with those of a model (32, 32).

    Of details, since large areas are alike in all photos of a series. The model may be moved and
    stretched a little, to first order: by its gradients in both directions, and those times the
    place.
    """
    details = _details(model[None])[0]
    down, right = np.gradient(details)
    place = np.linspace(-1, 1, SIDE, dtype=np.float32)
    moved = [details, down, right, down * place[:, None], right * place]
    basis, _ = np.linalg.qr(np.stack(moved).reshape(len(moved), -1).T)
    ours = _details(prints).reshape(len(prints), -1)
    explained = np.square(ours @ basis).sum(1) / np.square(ours).sum(1).clip(1e-6)
    return np.copysign(np.sqrt(explained), ours @ details.ravel())


def _details(prints: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What is between two and six pixels wide in prints (M, 32, 32)."""
    fine = _BLUR @ prints.astype(np.float32) @ _BLUR.T
    return fine - _BLUR @ _BLUR @ fine @ _BLUR.T @ _BLUR.T
