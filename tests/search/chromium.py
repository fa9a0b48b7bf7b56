"""Chromium, where there is one: what a page becomes in it, and what it says on its console."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium on the PATH")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=2000"),
)


def chromium(url: str, profile: Path, *words: str) -> tuple[str, list[str]]:
    """What it prints, and what the page said on its console."""
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *words, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r"CONSOLE.*?\] (.*)", done.stderr)
