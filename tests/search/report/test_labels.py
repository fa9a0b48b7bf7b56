"""Names beside marks: none covers a mark or another name, however close the marks are."""

from itertools import combinations

import pytest

from vitpareto.search.report.labels import Box, Spot, around, corners, mark, put, walls
from vitpareto.search.report.svg import NARROW, WIDE


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("gap", [0.01, 0.08, 0.3])
def test_names_of_marks_in_one_line_cover_nothing(width: int, gap: float) -> None:
    marks = [(width * (0.9 - gap * i), 80.0) for i in range(3)]
    model = (marks[0][0] - 9, 85.0)
    taken = [*walls(width, 400), *(mark(*at, 6) for at in [*marks, model])]
    fixed = len(taken)
    put("D", corners(*model), taken, 11, 15)
    for name, at in zip(("start, float32", "start, PyTorch", "start, int8"), marks, strict=True):
        put(name, around(*at, 6, "end"), taken)
    ends = ((width - 20, "end"), (60, "start"))
    put("teacher 89.7%", [Spot(x, y, side) for x, side in ends for y in (74, 97)], taken)
    names = taken[fixed:]
    assert len(names) == 5
    assert not any(a.shared(b) for a, b in combinations(names, 2))
    assert not any(name.shared(other) for name in names for other in taken[:fixed])


def test_where_there_is_no_room_the_least_is_covered() -> None:
    spots = [Spot(0, 10, "start"), Spot(200, 10, "end")]
    taken = [Box(0, 0, 100, 20), Box(150, 0, 160, 20)]
    assert put("name", spots, taken, 20, 10) == spots[1]
    assert taken[-1] == Box(120, 2, 200, 12)
