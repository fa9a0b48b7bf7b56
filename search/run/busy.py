"""Busy: noticing that other programs take the cores on which this process wants to compute."""

from __future__ import annotations

import logging
import time

SOON_S = 20.0  # of computing, before anything is said
LITTLE = 0.75  # share of a core below which a process that computes was kept from it

log = logging.getLogger("vitpareto")


class Busy:
    """Compares the time that a process computed with the time that went by.

    A process that only computes has a core for itself on a free machine, so the ratio is 1 or
    more, whatever the work; nothing has to be known of how fast it should be.

    Attributes:
        words: what was said; empty while there is nothing to say.
    """

    def __init__(self) -> None:
        self.words = ""
        self._stage, self._wall, self._computed = "", 0.0, 0.0

    def begin(self, stage: str) -> None:
        """Measure from here on."""
        self._stage = stage
        self._wall, self._computed = time.monotonic(), time.process_time()

    def look(self) -> None:
        """Say it once in the log, if this process is kept from computing."""
        went_by = time.monotonic() - self._wall
        if self.words or went_by < SOON_S:
            return
        share = (time.process_time() - self._computed) / went_by
        if share < LITTLE:
            self.words = (
                f"the machine is busy: {self._stage} gets {share:.2f} of a core, so it takes "
                f"about {1 / share:.1f} times as long; end other programs if that is too slow"
            )
            log.warning("%s", self.words)
