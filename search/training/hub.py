"""Hub: weights of Hugging Face's, or the copies that earlier runs have kept of them."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from huggingface_hub import constants, get_session

from ...spaces.errors import RunError
from .checkpoint_file import one_line

WAIT_S = 5.0  # for the hub to answer


@contextmanager
def fetching(what: str) -> Generator[None]:
    """Let a library load weights that it knows by name.

    Where the hub does not answer, its client is told to look for copies alone: by itself it goes
    on trying for a minute.

    Args:
        what: key of a configuration and model, for the message.

    Raises:
        RunError: they cannot be had.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    before = constants.HF_HUB_OFFLINE
    silence = "" if before else _silence()
    constants.HF_HUB_OFFLINE = before or bool(silence)
    try:
        yield
    except Exception as error:  # of timm, torch, or the libraries that download
        raise RunError(
            f"{what}: its weights cannot be had; without a network there are those of which an "
            f"earlier run has kept a copy, or of a checkpoint: {silence or one_line(error)}"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _silence() -> str:
    """Why the hub does not answer; empty if it does, whatever it says."""
    try:
        get_session().head(constants.ENDPOINT, timeout=WAIT_S)
    except Exception as error:  # of the library that it sends with, which changed with releases
        return f"{constants.ENDPOINT} does not answer: {one_line(error)}"
    return ""
