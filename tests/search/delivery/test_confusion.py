"""The confusion matrix of a manifest: as scikit-learn counts, and the same when read again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from torch.nn import functional as F

from vitpareto.search.delivery.confusion import ClassResult, class_results
from vitpareto.search.delivery.manifest import read_manifest, write_manifest
from vitpareto.search.training.accuracy import accuracy
from vitpareto.spaces.errors import RunError

OLD = Path(__file__).parents[2] / "data" / "manifest_0_1_0.json"
NAMES = ("crane", "a <b>", "crane", "übergroß", "0")  # ImageNet has two cranes, too
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(pairs)
def test_rows_are_those_of_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    labels, answers = map(list, zip(*drawn, strict=True))
    logits = F.one_hot(torch.tensor(answers), 5).float()
    found = class_results(logits, torch.tensor(labels), NAMES)
    matrix = [[row.answers.get(str(answer), 0) for answer in range(5)] for row in found]
    assert np.array_equal(matrix, confusion_matrix(labels, answers, labels=range(5)))
    assert [row.name for row in found] == list(NAMES)
    assert [row.images for row in found] == [labels.count(label) for label in range(5)]
    recalls = [row.recall for row in found if row.recall is not None]
    assert len(recalls) == len(set(labels))
    share = accuracy(logits, torch.tensor(labels))["balanced_accuracy"]
    assert np.mean(recalls) == pytest.approx(share)


def test_a_manifest_keeps_them(tmp_path: Path) -> None:
    folder = tmp_path / json.loads(OLD.read_text())["key"]
    folder.mkdir()
    shutil.copy(OLD, folder / "manifest.json")
    old = read_manifest(folder)
    assert old.classes is None and old.test_classes is None and old.goal == "accuracy"
    labels = torch.tensor([0, 0, 1])
    rows = class_results(torch.eye(3)[[0, 2, 1]], labels, NAMES[:3])
    kept = {"classes": rows, "test_classes": rows[:1], "goal": "balanced_accuracy"}
    new = replace(old, **kept, metrics=None)  # of a release that did not measure it
    write_manifest(folder, new)
    assert read_manifest(folder) == new
    body = json.loads((folder / "manifest.json").read_text())
    assert body["goal"] == "balanced_accuracy"
    assert body["classes"] == [
        {"name": "crane", "images": 2, "recall": 0.5, "answers": {"0": 1, "2": 1}},
        {"name": "a <b>", "images": 1, "recall": 1.0, "answers": {"1": 1}},
        {"name": "crane", "images": 0, "recall": None, "answers": {}},
    ]
    broken = replace(old, classes=rows)
    with pytest.raises(RunError, match="lacks 'images'"):
        type(old).from_dict(broken.to_dict() | {"classes": [{"name": "crane"}]})
    assert rows[0] == ClassResult("crane", 2, 0.5, {"0": 1, "2": 1})
