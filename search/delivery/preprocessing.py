"""Preprocessing: normalization and class names, kept inside a model's file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ...spaces import Candidate
from ..data.dataset import Data


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Normalization of the input and names of the outputs.

    Attributes:
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divided by.
        class_names: one for each output.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, data: Data) -> Preprocessing:
        """Preprocessing of a data set."""
        return cls(data.mean, data.std, data.class_names)


def metadata(candidate: Candidate, preprocessing: Preprocessing | None) -> dict[str, object]:
    """Metadata inside a model's file, by name."""
    about: dict[str, object] = {
        "key": candidate.key,
        "input_size": candidate.architecture.input_size,
    }
    return about | (asdict(preprocessing) if preprocessing else {})
