"""Planning: list the images, and decide from a sample how they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...spaces.errors import RunError
from ..config import DataConfig
from .dataset import mixed
from .pixels import Look, choose_channels, choose_fit
from .reading import Pixels, read_all, unreadable
from .sources import list_images
from .sources.listing import Listing
from .splits import DECLARED

SAMPLE = 256  # images that say how all are shown
THUMBNAIL = Look(32, 3, "squash")


@dataclass(frozen=True)
class ReadingPlan:
    """What will be read, and how it is shown.

    Attributes:
        listing: of the images, no more than the configuration asks for.
        look: how networks see them.
        decided: sentences on what was decided.
    """

    listing: Listing
    look: Look
    decided: tuple[str, ...]


@lru_cache(maxsize=1)
def plan_reading(config: DataConfig, size: int) -> ReadingPlan:
    """List the images, and decide from a sample how they are shown.

    Args:
        config: of the data.
        size: side in pixels.

    Raises:
        RunError: the source cannot be read, or no image of the sample can.
    """
    listing = _limited(list_images(config), config.limit, config.seed)
    few = _sample(listing)
    thumbnails: dict[int, Pixels] = {}
    seen, _ = read_all(few, THUMBNAIL, thumbnails.__setitem__)
    if not thumbnails:
        raise RunError(f"data: {listing.name}: no image can be read: {unreadable(few, seen)}")
    channels, fit, decided = config.channels, config.fit, list[str]()
    if not channels:
        channels, words = choose_channels(thumbnails.values())
        decided.append(words)
    if not fit:
        fit, words = choose_fit([(s.width, s.height) for s in seen if not s.reason])
        decided.append(words)
    return ReadingPlan(listing, Look(size, channels, fit), tuple(decided))


def _limited(listing: Listing, limit: int, seed: int) -> Listing:
    """At most `limit` images, the same number of each class, and all of a declared test split."""
    kept, cut = list[int](), list[int]()
    for i, entry in enumerate(listing.entries):
        (kept if entry.split in DECLARED else cut).append(i)
    chosen = evenly([listing.entries[i].label for i in cut], limit, seed)
    return listing.only(sorted([*kept, *(cut[i] for i in chosen)]))


def evenly(labels: Sequence[Hashable], limit: int, seed: int) -> list[int]:
    """Numbers of at most `limit` images, as many of each class; of all images where it is 0."""
    if not limit or len(labels) <= limit:
        return [*range(len(labels))]
    each = max(1, limit // len({*labels}))
    taken, chosen = Counter[Hashable](), list[int]()
    for i in np.random.default_rng(seed).permutation(len(labels)).tolist():
        if taken[labels[i]] < each:
            taken[labels[i]] += 1
            chosen.append(i)
    return sorted(chosen)


def _sample(listing: Listing) -> Listing:
    """Some images from all of a listing."""
    return listing.only(mixed(len(listing.entries), SAMPLE).tolist())
