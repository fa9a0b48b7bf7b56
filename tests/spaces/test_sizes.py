"""Presets at other sizes keep their token grids; own files are refused with sizes that work."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from vitpareto.spaces import ConfigError, SearchSpace, SpaceError
from vitpareto.spaces.safe_yaml import read_yaml
from vitpareto.spaces.sizes import FITTED, LEAST_PATCH, NEAR, SIZES, at_size
from vitpareto.spaces.space import PRESETS

from ..shared import presets, slow_but

NAMES = presets()

OWN = """
input_size: {size}
stem: conv
patch_size: 4
pos_embed: none
global_pool: avg
stages:
  - {{depth: 1, width: 16, num_heads: 2}}
  - {{depth: 1, width: 32, num_heads: 2, mixer: window, window_size: 6}}
"""


def patches(spec: Mapping[str, Any], name: str = "patch_size") -> list[int]:
    given = spec[name]
    return given if isinstance(given, list) else [given]


def own_size(spec: Mapping[str, Any]) -> int:
    return max(patches(spec, "input_size"))


@pytest.mark.parametrize("name", NAMES)
def test_every_size_keeps_the_token_grids(name: str) -> None:
    own = read_yaml(PRESETS / f"{name}.yaml")
    halvings = sum(stage.get("stride", 2) == 2 for stage in own["stages"][1:])
    grids = [own_size(own) / patch for patch in patches(own)]
    smallest = LEAST_PATCH[own.get("stem", "patch")]
    least = 4 << halvings if smallest > 1 else 1  # two tokens a side in the last stage
    for asked in (*SIZES[:60], *SIZES[60::7]):
        spec = at_size(own, asked)
        size, step = spec["input_size"], min(patches(spec)) << halvings
        assert abs(size - max(asked, least)) <= max(2, 0.07 * asked, step)
        for patch in patches(spec):
            assert size % (patch << halvings) == 0 and size // patch >> halvings >= 2
            factor = min(max(size / patch / grid, grid * patch / size) for grid in grids)
            assert factor < NEAR * 1.001 or patch in (2, smallest)  # a stem has none smaller
        if asked != own_size(own):
            assert f"{name}@{asked}: input_size {size}" in spec["description"]


@pytest.mark.parametrize("size", slow_but((97,), (16, 48, 97, 224, 512)))
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_at_a_size_is_a_space(name: str, size: int) -> None:
    space, own = SearchSpace.from_yaml(f"{name}@{size}"), SearchSpace.from_yaml(name)
    architecture = space.largest().architecture
    assert space.name == f"{name}@{architecture.input_size}" or size == own_size(own.spec)
    assert SearchSpace.from_text(space.to_yaml()) == space
    names = {choice.name for choice in own.parameters} - {c.name for c in space.parameters}
    fitted = ("patch_size", "input_size", *FITTED)  # what became one size is no choice
    assert all(name.rpartition(".")[2] in fitted for name in names)
    for stage, blocks in enumerate(architecture.stages):
        windows = {b.window_size for b in blocks.blocks if b.mixer == "window"}
        assert all(architecture.side(stage) >= window for window in windows)
    work = math.prod(len(choice.values) for choice in own.parameters)
    assert math.prod(len(choice.values) for choice in space.parameters) >= work / 3


@pytest.mark.parametrize("name", NAMES)
def test_its_own_size_changes_nothing(name: str) -> None:
    own = SearchSpace.from_yaml(name)
    assert SearchSpace.from_yaml(f"{name}@{own_size(own.spec)}") == own


def test_squares_divide_the_grid() -> None:
    """On those of 12x12, 6x6 and 3x3, of which the last has no smaller ones."""
    stages = at_size(read_yaml(PRESETS / "mobilevit.yaml"), 96)["stages"]
    assert [stage.get("unfold_size") for stage in stages[2:5]] == [2, 2, 1]


def test_windows_divide_the_grid_where_they_can() -> None:
    space = SearchSpace.from_yaml("mobile_hybrid@96")
    assert space.spec["stages"][2]["window_size"] == 6  # on a grid of 12x12, where 7 is padded
    assert space.description == (
        "mobile_hybrid@96: input_size 96, patch_size 2 instead of 4, window_size 6 instead of 7"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mobile_hybrid@", "need pixels behind @, such as mobile_hybrid@96, got ''"),
        ("mobile_hybrid@96px", "got '96px'"),
        ("mobile_hybrid@4", "a size is 8 to 1024 pixels, got 4"),
        ("mobil_hybrid@96", "unknown space 'mobil_hybrid'. Did you mean 'mobile_hybrid'"),
        ("mine.yaml@96", "only presets have other sizes: set input_size in mine.yaml"),
    ],
)
def test_what_is_no_size_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SearchSpace.from_yaml(name)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (100, "input_size 100 must be a multiple of .*; input_size 96 or 104 would do"),
        (40, "window_size 6 is larger than the token grid of 5x5; input_size 48 or 56 would do"),
    ],
)
def test_own_files_are_refused_with_sizes_that_work(size: int, words: str) -> None:
    with pytest.raises(SpaceError, match=words) as caught:
        SearchSpace.from_text(OWN.format(size=size))
    found = str(caught.value).partition("; input_size ")[2].split()
    for other in (found[0], found[2]):
        assert SearchSpace.from_text(OWN.format(size=other)).largest()


def test_no_size_is_offered_where_none_helps() -> None:
    text = OWN.format(size=100).replace("num_heads: 2", "num_heads: 3")
    with pytest.raises(SpaceError) as caught:
        SearchSpace.from_text(text)
    assert "would do" not in str(caught.value)
