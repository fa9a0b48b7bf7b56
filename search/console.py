"""The console of long work: progress on standard error, and a first Ctrl-C that only asks to stop.

Progress is drawn in full on a terminal, and is a line now and then in a log.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

EVERY_S = 10.0  # between two lines of a log
COUNT = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {left} left{whole}{postfix}"
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # clusters pre-empt with SIGTERM
SHARE = "{desc}: {percentage:.0f}%, {left} left{whole}{postfix}"
DRAWN = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{left}, {rate_fmt}{postfix}]{whole}"


class Follower(Protocol):
    """Who knows the whole job that bars are parts of."""

    def see(self, label: str, done: float, total: float, words: str) -> None:
        """Take note of a bar, of its words too; called at every step, so it must be cheap."""
        ...

    def left_s(self) -> float | None:
        """Seconds left of the part that the bar is of; None where the bar knows best."""
        ...

    def whole(self) -> str:
        """Words about the whole job for the end of a bar; may be empty."""
        ...


_followers: list[Follower] = []  # of this process; workers have none


@contextlib.contextmanager
def followed_by(follower: Follower) -> Generator[None]:
    """Tell a follower of every bar."""
    _followers.append(follower)
    try:
        yield
    finally:
        _followers.remove(follower)


_Tqdm = tqdm[Any] if TYPE_CHECKING else tqdm  # generic for type checkers alone


class _Bar(_Tqdm):
    """A bar that followers see, and that ends with what they know of the whole job."""

    def update(self, n: float | None = 1) -> bool | None:
        drawn = super().update(n)
        for follower in _followers:
            follower.see(self.desc, self.n, self.total or 0, self.postfix or "")
        return drawn

    @property
    def format_dict(self) -> Any:
        known = super().format_dict
        left = [s for follower in _followers if (s := follower.left_s()) is not None]
        words = [words for follower in _followers if (words := follower.whole())]
        is_done = known["total"] is not None and known["n"] >= known["total"]
        seconds = 0.0 if is_done else left[-1] if left else _left_s(known)
        said = "?" if seconds is None else tqdm.format_interval(seconds)
        return {**known, "left": said, "whole": "".join(f", {w}" for w in words)}


def _left_s(known: Mapping[str, Any]) -> float | None:
    """Seconds left at the pace of a bar."""
    made = known["n"] - known["initial"]
    rate = known["rate"] or (made / known["elapsed"] if known["elapsed"] else 0.0)
    return (known["total"] - known["n"]) / rate if rate and known["total"] else None


def progress(total: int, label: str, unit: str = "step") -> tqdm[Any]:
    """A bar that counts to `total` and shows the rate and the time left."""
    if sys.stderr.isatty():
        return _Bar(
            total=total,
            desc=label,
            unit=unit,
            dynamic_ncols=True,
            mininterval=0.2,
            bar_format=DRAWN,
        )
    return _Bar(
        total=total,
        desc=label,
        unit=unit,
        file=_Lines(),
        bar_format=SHARE if unit == "%" else COUNT,
        mininterval=EVERY_S,
        delay=EVERY_S / 2,  # short work needs no line, and at the start there is no rate
    )


def spoken(seconds: float) -> str:
    """A duration as people say it.

    >>> spoken(8.2), spoken(44), spoken(400), spoken(9000)
    ('10 s', '40 s', '7 min', '2.5 h')
    """
    if seconds < 57:
        return f"{max(10, 10 * round(seconds / 10))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5370 else f"{seconds / 3600:.1f} h"


def say(text: str) -> None:
    """Print a line on standard error, above any bar."""
    tqdm.write(text, file=sys.stderr)


class _Lines(io.StringIO):
    """Standard error with every update on a line of its own."""

    def write(self, text: str, /) -> int:
        if line := text.strip():
            sys.stderr.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def share_bar(label: str) -> Generator[Callable[[float, str], None]]:
    """A bar for work that reports the share that is done and its current step."""
    with progress(100, label, "%") as bar:

        def report(share: float, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(round(100 * share) - bar.n)

        yield report
        bar.update(100 - bar.n)


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
