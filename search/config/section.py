"""Section: part of a run file; its keys are known, and it does not change."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # which every generator takes, with a pass beside it


class Section(BaseModel):
    """Refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def share_text(value: float) -> str:
    """The rule that a share above 1 breaks, and what was probably meant.

    >>> share_text(95)
    'is a share: 0.95, not 95'
    """
    if value > 100:
        return f"is a share of at most 1, got {value:g}"
    return f"is a share: {value / 100:g}, not {value:g}"
