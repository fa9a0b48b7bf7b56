"""What the report draws: all of it, inside of its picture, and adding up."""

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vitpareto.search.data.survey import as_image
from vitpareto.search.report.bars import spent_ms
from vitpareto.search.report.charts import progress_of
from vitpareto.search.report.choices import axes
from vitpareto.search.report.drawing import columns
from vitpareto.search.report.facts import Facts
from vitpareto.search.report.front import front_chart, size_edges
from vitpareto.search.report.mistakes import data_uri
from vitpareto.search.report.style import EDGES
from vitpareto.search.report.svg import NARROW, WIDE
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.mixers import MIXERS, find


def test_times_of_sub_blocks_add_up_to_the_promise(facts: Facts) -> None:
    for manifest in facts.delivered:
        other = replace(manifest.promised, latency_ms=1.7 * manifest.promised.predicted_ms)
        for each in (manifest, replace(manifest, promised=other)):
            spent = spent_ms(facts, each)
            assert sum(spent.values()) == pytest.approx(each.promised.latency_ms)
            assert all(took > 0 for took in spent.values())


def test_progress_ends_where_the_search_did(facts: Facts) -> None:
    volumes, best = progress_of(facts)
    assert len(volumes) == len(facts.evaluations)
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(facts.stages["search"]["hypervolume"])
    assert best[-1] == max(e.metrics["accuracy"] for e in facts.evaluations)


def test_shares_of_a_choice_add_up(facts: Facts) -> None:
    found = axes(facts)
    names = {choice.name.rpartition(".")[2] for choice in facts.space.parameters}
    assert {axis.name for axis in found} <= names
    for axis in found:
        assert sum(axis.scored) == pytest.approx(1)
        assert sum(axis.front) == pytest.approx(1) or sum(axis.front) == 0
        assert all(0 <= share <= 1 for share in axis.explains.values())


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_dot_is_inside_the_picture(facts: Facts, width: int) -> None:
    class Dots(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found = dict(attrs)
            if tag == "circle":
                assert 0 < float(found["cx"] or "nan") < width

    Dots().feed(front_chart(facts, width))


def test_as_many_candidates_in_each_shade() -> None:
    assert size_edges(list(range(101))) == [20, 40, 60, 80]
    assert size_edges([]) == []


@pytest.mark.parametrize("preset", ["digits", "deit_tiny", "mobile_hybrid"])
def test_a_drawing_has_every_sub_block(preset: str) -> None:
    for candidate in SearchSpace.from_yaml(preset).sample(20, seed=1):
        a, found = candidate.architecture, columns(candidate)
        blocks = list(a.blocks())
        drawn = [column for column in found if column.shapes[0].kind != "plain"]
        assert [c.shapes[0].kind for c in drawn] == [b.mixer for b in blocks]
        mlps = [b.mlp_hidden > 0 and b.mixer != "mbconv" for b in blocks]
        assert [len(c.shapes) == 2 for c in drawn] == mlps
        assert len(found) == len(blocks) + 2 + len(a.stages) - 1
        assert len({c.heading for c in found if c.heading}) == len(a.stages) + 1


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_names_of_baselines_do_not_cover_each_other(facts: Facts, width: int) -> None:
    class Names(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.inside = False
            self.boxes: list[tuple[float, float, float]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found = dict(attrs)
            self.inside = tag == "text" and self.found.get("class") == "baseline-label"

        def handle_data(self, data: str) -> None:
            if self.inside:
                x, wide = float(self.found["x"] or "nan"), 6 * len(data)
                left = x - wide if self.found.get("text-anchor") == "end" else x
                self.boxes.append((float(self.found["y"] or "nan"), left, left + wide))
                self.inside = False

    first = facts.references[0]
    rows = [{**first, "name": name} for name in ("original", "float32", "float16", "int8 only")]
    names = Names()
    names.feed(front_chart(replace(facts, ladder=rows), width))
    assert len(names.boxes) == 4
    for i, (y, left, right) in enumerate(names.boxes):
        for other, a, b in names.boxes[:i]:
            assert abs(y - other) > 11 or right < a or b < left


def test_pictures_in_color_are_made_small() -> None:
    pixels = np.zeros((3, 512, 512), np.uint8)
    pixels[0] = 200
    content = base64.b64decode(data_uri(as_image(pixels)).partition(",")[2])
    assert len(content) < 20_000
    image = Image.open(io.BytesIO(content))
    assert max(image.size) < 200
    assert np.abs(np.asarray(image, int).mean((0, 1)) - [200, 0, 0]).max() < 5


def test_blocks_of_every_mixer_have_one_color() -> None:
    colored = [name for names in EDGES.values() for name in names.split()]
    assert len(set(colored)) == len(colored)
    assert {*colored} - {"mlp"} == {name for name in MIXERS if not find(name).is_nothing}
