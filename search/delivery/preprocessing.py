"""Preprocessing: what a user of a model must know beside the model, kept inside its file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ...spaces import Candidate
from ..data.dataset import Data


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a user of the artifact must know of its input and output.

    Attributes:
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divided by.
        class_names: one an output.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, data: Data) -> Preprocessing:
        """That of a data set."""
        return cls(data.mean, data.std, data.class_names)


def metadata(candidate: Candidate, preprocessing: Preprocessing | None) -> dict[str, object]:
    """What travels inside a model's file, by name."""
    found: dict[str, object] = {
        "key": candidate.key,
        "input_size": candidate.architecture.input_size,
    }
    return found | (asdict(preprocessing) if preprocessing else {})
