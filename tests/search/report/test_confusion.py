"""The confusion matrix of the report: whole, inside its picture, escaped, and short where long."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from vitpareto.search.delivery.confusion import class_results
from vitpareto.search.delivery.manifest import read_manifest, write_manifest
from vitpareto.search.report import build_report
from vitpareto.search.report.confusion import confusion, confusion_chart, short
from vitpareto.search.report.facts import Facts
from vitpareto.search.report.svg import NARROW, WIDE
from vitpareto.search.store.run_folder import RunFolder

from ..conftest import invoke

NAMES = (
    "<script>alert(1)</script>",
    "a name " * 20,
    "日本語のとても長い名前です",
    "\u202etfel\nline",
)
pytestmark = pytest.mark.onnx


class Parsed(HTMLParser):
    """Texts, tips and rectangles of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tips: list[str] = []
        self.ends: list[float] = []
        self.kinds: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tips += [found["data-tip"]] if "data-tip" in found else []
        if tag == "rect":
            self.ends.append(float(found["x"]) + float(found["width"]))
            self.kinds.append(found["class"])

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def answered(classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and answers, of which a fifth are wrong; the last class has no image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes - 1, (40 * classes,), generator=generator)
    wrong = torch.rand(len(labels), generator=generator) < 0.2
    other = torch.randint(0, classes, (len(labels),), generator=generator)
    return labels, torch.where(wrong, other, labels)


def rows_of(classes: int):
    labels, answers = answered(classes)
    names = [*NAMES, *(f"class {i}" for i in range(classes))][:classes]
    return class_results(F.one_hot(answers, classes).float(), labels, names)


def shown(facts: Facts, classes: int) -> Parsed:
    rows = rows_of(classes)
    delivered = [replace(m, classes=rows, test_classes=rows) for m in facts.delivered]
    return Parsed(confusion(facts, delivered[0]))


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("classes", [2, 10, 30])
def test_every_pair_that_occurs_is_drawn_inside_the_picture(classes: int, width: int) -> None:
    found, (labels, answers) = (
        Parsed(confusion_chart(rows_of(classes), width)),
        answered(classes),
    )
    pairs = set(zip(labels.tolist(), answers.tolist(), strict=True))
    assert found.kinds.count("right") == sum(a == b for a, b in pairs)
    assert found.kinds.count("wrong") == sum(a != b for a, b in pairs)
    assert found.kinds.count("empty-row") == classes
    assert max(found.ends) < width - 40  # with room for the recall
    (tip, *_) = [t for t in found.tips if t.startswith(f"{NAMES[0]}: ") and "are right" in t]
    n = int(((labels == 0) & (answers == 0)).sum())
    assert f": {n} of {int((labels == 0).sum())} are right" in tip


def test_the_best_model_is_shown_with_recalls_and_escaped_names(facts: Facts) -> None:
    page = confusion(facts, facts.best)
    assert "on the test split" in page
    assert f"Answers of {facts.letter(facts.best.key)} " in page
    row = facts.best.test_classes[0]
    assert f"{row.recall:.0%} of {row.images:,}" in page
    found = shown(facts, 4)
    assert NAMES[0] in found.tips and NAMES[1] in found.tips
    assert not any("\n" in text or "\u202e" in text for text in found.texts)
    assert "no image" in found.texts


def test_of_many_classes_the_ten_worst_pairs_are_listed_and_all_recalls_are_kept(
    facts: Facts,
) -> None:
    found = shown(facts, 40)
    assert not found.kinds and "all 40 classes" in found.texts
    labels, answers = answered(40)
    matrix = torch.bincount(labels * 40 + answers, minlength=1600).view(40, 40)
    matrix.fill_diagonal_(0)
    wanted = matrix.flatten().sort(descending=True).values[:10]
    start = found.texts.index("of its images") + 1
    cells = found.texts[start : start + 40]
    assert [int(n) for n in cells[2::4]] == wanted.tolist()
    assert [t for t in found.texts if t.startswith("class ")].count("class 20") >= 1


def test_nothing_is_shown_of_models_that_were_never_counted(facts: Facts) -> None:
    assert confusion(facts, replace(facts.best, classes=None, test_classes=None)) == ""
    assert "on the validation split" in confusion(facts, replace(facts.best, test_classes=None))


def test_names_are_cut_to_the_room_that_they_have() -> None:
    assert short("cat", 60) == "cat"
    assert short("W" * 20, 60) == "WWWW…" and short("i" * 20, 60) == "iiiiiii…"
    assert short("日本語日本語", 60) == "日本語…"
    assert short("a\nb\u202e", 60) == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"


def test_a_run_of_a_release_without_any_of_this_is_reported_and_verified(
    finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "old"))
    for log in (run / "evaluations.jsonl", run / "short_trainings.jsonl"):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            line["metrics"] = {n: v for n, v in line["metrics"].items() if "balanced" not in n}
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    unknown = dict.fromkeys(f"balanced_accuracy{end}" for end in ("", "_low", "_high"))
    for folder in run.glob("pareto/*"):
        new = read_manifest(folder)
        parts = {
            name: replace(getattr(new, name), **unknown)
            for name in ("promised", "trained", "metrics", "test")
        }
        write_manifest(folder, replace(new, **parts, classes=None, test_classes=None))
        assert "balanced" not in (folder / "manifest.json").read_text()
    (reference, *_) = json.loads((run / "reference.json").read_text())
    kept = {name: value for name, value in reference.items() if "balanced" not in name}
    (run / "reference.json").write_text(json.dumps(kept))
    (run / "mistakes.json").unlink()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("  balance: none\n", ""))
    build_report(RunFolder(run, lock=False))
    page = (run / "report.html").read_text()
    assert "Which classes are confused" not in page and "data:image" not in page
    result = invoke("verify", run)
    assert result.exit_code in (0, 3), result.output
    assert "accuracy of the artifact" in result.output
