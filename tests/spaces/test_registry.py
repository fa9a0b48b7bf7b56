"""Names of files and plugins: listed without loading, loaded once, refused in one line."""

import math
import sys
from pathlib import Path

import pytest

from vitpareto.spaces import registry
from vitpareto.spaces.errors import ConfigError, UnknownNameError
from vitpareto.spaces.registry import Registry

PLUGIN = """
[vitpareto.constants]
golden = golden_plugin:RATIO
lost = golden_plugin:NOTHING
pi = golden_plugin:RATIO
"""


@pytest.fixture
def constants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[float]:
    """A registry with one entry of its own, and three of an installed plugin."""
    (tmp_path / "golden_plugin.py").write_text("RATIO = (1 + 5**0.5) / 2\n")
    about = tmp_path / "golden_plugin-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: golden-plugin\nVersion: 1\n")
    (about / "entry_points.txt").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._points.cache_clear()
    yield Registry("constant", {"pi": "math:pi"}, __name__)
    registry._points.cache_clear()
    sys.modules.pop("golden_plugin", None)


def test_listing_loads_nothing(constants: Registry[float]) -> None:
    assert list(constants) == ["pi", "golden", "lost"]
    assert "golden" in constants and "e" not in constants and len(constants) == 3
    assert "golden_plugin" not in sys.modules


def test_own_names_win(constants: Registry[float]) -> None:
    assert constants["pi"] == math.pi
    assert constants.find("golden") == pytest.approx(1.618, abs=1e-3)


def test_unknown_and_broken(constants: Registry[float]) -> None:
    with pytest.raises(UnknownNameError, match=r"constant 'goldn'.*'golden'"):
        constants.find("goldn")
    with pytest.raises(ConfigError, match=r"constant 'lost': its plugin cannot be loaded.*NOTHING"):
        constants.find("lost")
