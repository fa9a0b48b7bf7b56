"""A log that grows by a line at a time is not parsed from its start at every look."""

import json
from pathlib import Path

import pytest

from vitpareto.search.scoring.evaluation import Evaluation
from vitpareto.search.scoring.evaluation_log import EvaluationLog, read_evaluations
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import RunError


def test_a_line_is_parsed_once(space: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "log"
    some = [Evaluation(c, "complete", {"accuracy": 0.5}) for c in space.sample(4, 0)]
    log = EvaluationLog(path)
    for evaluation in some[:3]:
        log.append(evaluation)
    first, _ = read_evaluations(path)
    log.append(some[3])
    then, whole = read_evaluations(path)
    assert [e.to_dict() for e in then] == [e.to_dict() for e in some]
    assert whole == path.stat().st_size
    assert all(one is again for one, again in zip(first, then[:3], strict=True))


def test_what_a_file_holds_now_is_read(space: SearchSpace, tmp_path: Path) -> None:
    """Not what it held before, nor a line that was torn or damaged since."""
    path = tmp_path / "log"
    rows = [Evaluation(c, "complete", {"accuracy": 0.5}).to_dict() for c in space.sample(3, 0)]
    lines = [f"{json.dumps(row)}\n" for row in rows]
    path.write_text("".join(lines))
    assert len(read_evaluations(path)[0]) == 3
    changed = json.dumps(rows[1] | {"metrics": {"accuracy": 0.7}})
    path.write_text(f"{lines[0]}{changed}\n{lines[2][:-1]}")
    found, whole = read_evaluations(path)
    assert [e.metrics["accuracy"] for e in found] == [0.5, 0.7]
    assert whole == len(lines[0]) + len(changed) + 1
    path.write_text(f"{lines[0][1:]}{lines[1]}")
    with pytest.raises(RunError, match="line 1 is broken"):
        read_evaluations(path)
