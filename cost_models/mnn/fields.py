"""Fields: texts that a file of MNN holds of itself, read without MNN.

A file is a flatbuffer, whose root is a table `Net` (schema/default/MNN.fbs of MNN).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from ...spaces.errors import CostError

ABOUT, UUID = 0, 11  # places in `Net` of bizCode, which is free to use, and of mnn_uuid


def about_of(content: bytes) -> Mapping[str, Any]:
    """What a file of ours says of itself, by name.

    Raises:
        CostError: it is no file of MNN, none of ours, or damaged.
    """
    try:
        told = json.loads(content[text_at(content, ABOUT)])
    except (struct.error, ValueError) as error:
        raise CostError("not a file of MNN that was made here, or a part is missing") from error
    if not isinstance(told, dict):
        raise CostError(f"not a file of MNN that was made here: it says {told!r} of itself")
    return told


def text_at(content: bytes, field: int) -> slice:
    """Where the text of a field of the root is.

    Raises:
        ValueError: the field is not there.
        struct.error: the file ends before it.
    """
    (root,) = struct.unpack_from("<I", content, 0)
    (back,) = struct.unpack_from("<i", content, root)
    table = root - back
    if table < 0:
        raise ValueError("the root has no table")
    (size,) = struct.unpack_from("<H", content, table)
    place = 4 + 2 * field
    offset = struct.unpack_from("<H", content, table + place)[0] if place < size else 0
    if not offset:
        raise ValueError(f"field {field} is not there")
    start = root + offset
    start += struct.unpack_from("<I", content, start)[0]
    (length,) = struct.unpack_from("<I", content, start)
    if start + 4 + length > len(content):
        raise ValueError(f"field {field} ends behind the file")
    return slice(start + 4, start + 4 + length)
