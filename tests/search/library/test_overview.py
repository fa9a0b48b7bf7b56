"""What `vitpareto library show` says of a library, and of runs that have none."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitpareto.search.config import RunConfig
from vitpareto.search.executors import LocalExecutor
from vitpareto.search.library.files import checkpoint_of, save
from vitpareto.search.library.making import make_library
from vitpareto.search.library.parts import Library
from vitpareto.search.library.start import Start
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import RunError

from ..conftest import invoke
from .conftest import SPACE


def run_with(folder: Path, start: str = "vit_tiny_patch16_224") -> Path:
    """A run folder as it is before its first stage."""
    folder.mkdir()
    config = RunConfig.model_validate({"space": "own", "start": {"model": start} if start else {}})
    (folder / "config.yaml").write_text(config.to_yaml())
    (folder / "space.yaml").write_text(SPACE)
    return folder


@pytest.fixture
def run(library: Library, start: Start, tmp_path: Path) -> Path:
    folder = run_with(tmp_path / "run")
    save(checkpoint_of(folder / "library.safetensors", start), library)
    return folder


def shown(run: Path, *words: str) -> Any:
    result = invoke("library", "show", run, "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_block_and_what_can_stand_in(run: Path, library: Library) -> None:
    found = shown(run)
    assert found["to_come"] == 0
    blocks = found["blocks"]
    assert [(b["stage"], b["block"], b["mixer"]) for b in blocks] == [
        (0, j, "softmax") for j in range(3)
    ]
    for j, block in enumerate(blocks):
        path = f"stages.0.blocks.{j}"
        assert block["alone_nats"] == library.missed[path]
        assert block["lost_nats"] == library.lost.get(path)
        explained = block["explained"]
        assert [*explained] == [
            *("2 of 4 heads", "32 of 64 hidden units"),
            *("grouped kv_heads=1", "linear kernel_size=3"),
        ]
        assert explained["2 of 4 heads"] == library.cuts[f"{path}.attn heads"][2]
        assert explained["32 of 64 hidden units"] == library.cuts[f"{path}.mlp hidden"][32]
        name = f"{path} linear head_dim=8 kernel_size=3"
        assert explained["linear kernel_size=3"] == library.explained[name]
    places = {b["place"]: b["block"] for b in blocks}
    assert [places[1], places[2]] == list(library.dropped[0])


def test_the_table(run: Path) -> None:
    lines = invoke("library", "show", run).stdout.splitlines()
    assert lines[0].split() == ["block", "0", "1", "2"]
    assert len({len(line) for line in (lines[0], *lines[4:])}) == 1
    assert sorted(lines[2].removeprefix("given up as number").split()) == ["1", "2"]
    assert all(line.count("%") == 3 for line in lines[4:])


def test_the_picture(run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "library.png"
    shown(run, "--png", str(picture))
    with Image.open(picture) as image:
        assert image.format == "PNG" and min(image.size) > 300


def test_stages_and_a_library_in_the_making(tmp_path: Path, start: Start) -> None:
    """A space that only cuts some of it has fewer rows, and what it lacks is counted."""
    space = SPACE.replace("depth: [1, 2, 3]", "depth: 3").replace("linear, grouped", "linear")
    run = run_with(tmp_path / "run")
    few = Start(start.architecture, start.weights, start.images[:8])
    make_library(few, SearchSpace.from_text(space), LocalExecutor(), run / "library.safetensors", 1)
    found = shown(run)
    assert found["to_come"] == 3
    assert all(b["alone_nats"] is None and b["place"] is None for b in found["blocks"])
    lines = invoke("library", "show", run, "--png", tmp_path / "l.png").stdout.splitlines()
    assert lines[-1] == "3 more are still to be made"
    assert not any("nats" in line for line in lines)
    with Image.open(tmp_path / "l.png") as image:
        assert min(image.size) > 200


def test_runs_that_have_none(run: Path, tmp_path: Path) -> None:
    def refused(folder: Path, message: str) -> None:
        error = invoke("library", "show", folder).exception
        assert isinstance(error, RunError)
        assert message in str(error) and "\n" not in str(error)

    refused(tmp_path, "no run folder")
    refused(run_with(tmp_path / "plain", start=""), "has no start, and so no library")
    shutil.copy(run / "space.yaml", run / "library.safetensors")
    refused(run, "library.safetensors: cannot be read")
    (run / "library.safetensors").unlink()
    refused(run, "its library is not made yet: continue the run with vitpareto search")
