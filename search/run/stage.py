"""Stage: the stages of a run by name, and what each is in plain words."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """A stage of a run, in order; `pipeline.STEPS` implements them.

    A run from a start makes a library of it, others train a supernet.
    """

    DATA = "data"
    CALIBRATION = "calibration"
    START = "start"
    TEACHER = "teacher"
    LIBRARY = "library"
    SUPERNET = "supernet"
    FORECAST = "forecast"
    SEARCH = "search"
    SHORTLIST = "shortlist"
    FINISHING = "finishing"
    VERIFICATION = "verification"
    REFERENCE = "reference"

    @property
    def meaning(self) -> str:
        """What it is, for people who never saw one."""
        return MEANINGS[self]


MEANINGS = {
    Stage.DATA: "the images, read, split and checked for copies",
    Stage.CALIBRATION: "how long each building block takes on the device",
    Stage.START: "the network that all begins with, adapted to the images",
    Stage.LIBRARY: "parts that imitate those of the start, from which candidates are assembled",
    Stage.TEACHER: "a network from which all others learn",
    Stage.SUPERNET: "the weights that all candidates share",
    Stage.FORECAST: "short trainings that tell how accurate any candidate would be",
    Stage.SEARCH: "candidates proposed, and the best of them kept",
    Stage.SHORTLIST: "the best candidates, timed on the device",
    Stage.FINISHING: "the chosen models, trained to their end and exported",
    Stage.VERIFICATION: "the finished models, checked on the device",
    Stage.REFERENCE: "your network or the largest one, timed to compare with",
}
