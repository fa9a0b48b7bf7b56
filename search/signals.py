"""Signals: asking a long loop to stop where it can, instead of tearing it apart."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # clusters pre-empt with SIGTERM


@contextlib.contextmanager
def stop_request() -> Generator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one interrupts as usual.

    Outside of the main thread, where Python delivers no signals, nothing ever sets it.
    """
    asked = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
