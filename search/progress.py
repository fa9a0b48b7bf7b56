"""Progress bars on standard error, in full on a terminal and as a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from typing import Any

from tqdm import tqdm


def progress(total: int, label: str, unit: str = "step") -> tqdm[Any]:
    """A bar that counts to `total` and shows the time left."""
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        file=sys.stderr,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
    )


@contextlib.contextmanager
def share_bar(label: str) -> Generator[Callable[[float, str], None]]:
    """A bar for work that reports the share that is done and what it is at."""
    with progress(100, label, "%") as bar:

        def report(share: float, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(round(100 * share) - bar.n)

        yield report
        bar.update(100 - bar.n)
