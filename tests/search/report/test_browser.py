"""The report in a real Chromium: no error, nothing sticks out, and what is hovered is told."""

import json
import re
import shutil
from pathlib import Path

import pytest

from ..chromium import chromium, needs_chromium

pytestmark = needs_chromium
PROBE = """<script>
const dot = document.querySelector(SELECTOR + " .model");
dot.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 50, clientY: 60}));
const box = document.getElementById("tip").getBoundingClientRect();
document.title = JSON.stringify({
  wider: document.documentElement.scrollWidth - innerWidth,
  shown: document.getElementById("tip").textContent, wanted: dot.dataset.tip,
  inside: box.width > 0 && box.left >= 0 && box.right <= innerWidth,
  width: dot.closest("svg").getBoundingClientRect().width,
  dark: getComputedStyle(document.body).backgroundColor,
});
</script></body>"""


@pytest.fixture
def page(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(finished / "report.html", tmp_path))


@pytest.mark.parametrize(("width", "selector"), [(1280, ".wide"), (400, ".narrow")])
def test_readable_and_alive(page: Path, width: int, selector: str) -> None:
    probe = PROBE.replace("SELECTOR", json.dumps(selector))
    page.write_text(page.read_text().replace("</body>", probe))
    dom, console = chromium(
        page.as_uri(), page.with_name("profile"), f"--window-size={width},900", "--dump-dom"
    )
    assert console == []
    title = re.search("<title>(.*?)</title>", dom, re.DOTALL)
    assert title
    found = json.loads(title[1].replace("&amp;", "&"))
    assert found["wider"] <= 0
    assert found["shown"] == found["wanted"]
    assert found["inside"]
    assert found["width"] > 0.8 * min(width, 1000) - 40


@pytest.mark.parametrize("width", [1280, 400])
def test_screenshots(page: Path, width: int) -> None:
    picture = page.with_name(f"{width}.png")
    chromium(
        page.as_uri(),
        page.with_name("profile"),
        f"--window-size={width},2000",
        f"--screenshot={picture}",
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 30_000  # an empty page has a few kB


def test_an_error_on_the_console_would_be_seen(page: Path) -> None:
    page.write_text(page.read_text().replace("</body>", "<script>missing()</script></body>"))
    _, console = chromium(page.as_uri(), page.with_name("profile"), "--dump-dom")
    assert any("missing is not defined" in line for line in console)
