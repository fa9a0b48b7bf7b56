"""Sources: where images come from. They list files and labels, and read one image at a time."""

from __future__ import annotations

from pathlib import Path

from ....spaces.errors import RunError
from ...config import DataConfig
from .classes import with_classes, with_look_alikes
from .folders import is_folder, list_folder
from .listing import Listing
from .tables import SUFFIXES, list_table


def list_images(config: DataConfig) -> Listing:
    """List the images that a run will read, with their classes; none is decoded.

    Raises:
        RunError: a source that cannot be read, or that has fewer than two classes.
    """
    root = Path(config.root).expanduser()
    if config.name != "folder":
        from .timm_dataset import list_timm  # timm takes a second to load

        listing = list_timm(config.name, str(root), config.train_split, config.test_split)
    elif not config.root:
        raise RunError("data.root: name a folder of class folders, or a CSV file")
    elif root.suffix.lower() in SUFFIXES and not is_folder(root):
        listing = list_table(root)
    else:
        listing = list_folder(root, config.group_level)
    if config.classes:
        listing = with_classes(listing, Path(config.classes).expanduser())
    return with_look_alikes(listing)
