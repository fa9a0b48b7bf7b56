"""Mistakes: the surest ones first, each named as the catalog names its image."""

import json
from pathlib import Path

import pytest
import torch

from vitpareto.search.data.catalog import Catalog, Row
from vitpareto.search.data.pixels import Look
from vitpareto.search.delivery.mistakes import KEPT, keep_mistakes, mistakes
from vitpareto.search.store.run_folder import RunPaths


def test_only_wrong_answers_the_surest_first_and_few() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(400, 5, generator=generator)
    labels = torch.randint(0, 5, (400,), generator=generator)
    shares = logits.double().softmax(1)
    wrong = {i for i in range(400) if int(logits[i].argmax()) != int(labels[i])}
    found = mistakes(logits, labels)
    assert len(found) == KEPT < len(wrong)
    for one in found:
        assert one.image in wrong and one.label == int(labels[one.image])
        assert one.answer == int(logits[one.image].argmax())
        assert one.probability == pytest.approx(shares[one.image, one.answer].item(), abs=1e-4)
        assert one.label_probability == pytest.approx(shares[one.image, one.label].item(), abs=1e-4)
    least = min(one.probability for one in found)
    left = wrong - {one.image for one in found}
    assert all(shares[i].max().item() <= least + 1e-4 for i in left)
    assert mistakes(logits, logits.argmax(1)) == []


def test_they_are_named_by_the_catalog_and_take_the_place_of_older_ones(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    logits, labels = torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([1, 1])
    keep_mistakes(paths, "test", {"k": mistakes(logits, labels)})
    assert not paths.mistakes.exists()  # no image was recorded
    splits = ("train", "test", "validation", "test")
    rows = [Row(f"{i}.jpg", "b\nc", split, "0") for i, split in enumerate(splits)]
    look = Look(8, 3, "crop")
    Catalog("set", ("a", "b\nc"), look, rows, (), {}, (), ()).save(paths.catalog, paths.images)
    keep_mistakes(paths, "test", {"k": mistakes(logits, labels), "other": []})
    keep_mistakes(paths, "validation", {"k": []})
    kept = json.loads(paths.mistakes.read_text())
    assert kept["validation"] == {"k": []} and kept["test"]["other"] == []
    (one,) = kept["test"]["k"]
    assert (one["path"], one["row"], one["label"], one["answer"]) == ("1.jpg", 1, "b\nc", "a")
    assert one["probability"] > 0.99 > one["label_probability"]
    keep_mistakes(paths, "test", {"k": []})
    assert json.loads(paths.mistakes.read_text())["test"] == {"k": [], "other": []}
