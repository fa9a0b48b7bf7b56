"""The report of a finished run: complete, sound, escaped, and from the folder alone."""

import base64
import csv
import io
import json
import shlex
import shutil
from copy import copy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpareto.search.data.splits import SPLITS
from vitpareto.search.data.survey import as_image
from vitpareto.search.delivery.claims import Story
from vitpareto.search.delivery.manifest import Manifest, read_manifest, write_manifest
from vitpareto.search.delivery.mistakes import KEPT
from vitpareto.search.delivery.pick import pick_model
from vitpareto.search.report import build_report, words
from vitpareto.search.report.bars import spent_ms
from vitpareto.search.report.charts import progress_of
from vitpareto.search.report.choices import axes
from vitpareto.search.report.commands import next_commands
from vitpareto.search.report.drawing import columns
from vitpareto.search.report.facts import Facts, gather
from vitpareto.search.report.front import front_chart, size_edges
from vitpareto.search.report.mistakes import SHOWN, data_uri
from vitpareto.search.report.models import speed
from vitpareto.search.report.notes import notes, trust
from vitpareto.search.report.page import page, tiles
from vitpareto.search.report.promises import promises
from vitpareto.search.report.style import EDGES
from vitpareto.search.report.svg import NARROW, WIDE
from vitpareto.search.run.stage import Stage
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.mixers import MIXERS, find

from ..conftest import invoke

VALIDATED = {"validated_n": 40, "validated_mean_error": 0.025, "validated_coverage_90": 0.9}
VOID = ("meta", "link", "br", "img")


class Sound(HTMLParser):
    """Checks that every element is closed where it must be; keeps texts and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.tips: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.links += [v for k, v in found.items() if k in ("src", "href") and v]
        self.tips += [found["data-tip"]] if found.get("data-tip") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(page: str) -> Sound:
    sound = Sound()
    sound.feed(page)
    assert sound.open == []
    return sound


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    path = tmp_path / "moved"
    shutil.copytree(finished, path)
    return path


@pytest.fixture(scope="module")
def facts(finished: Path) -> Facts:
    return gather(RunFolder(finished, lock=False))


def rebuilt(run: Path) -> Sound:
    return parsed(page(gather(RunFolder(run, lock=False))))


def test_it_needs_nothing_else_and_shows_everything(run: Path) -> None:
    (run / "report.html").unlink()
    found = rebuilt(run)
    assert [link for link in found.links if not link.startswith("data:")] == ["images.csv"]
    text = " ".join(found.texts)
    assert "http" not in text.split("configuration")[0]
    for manifest in run.glob("pareto/*/manifest.json"):
        assert json.loads(manifest.read_text())["key"] in text
    for heading in (
        *(
            "The front",
            "Delivered models",
            "Latency: promised and measured",
            "Accuracy: forecast and finished",
            "What to keep in mind",
        ),
        *("Which classes are confused", "Which images are in which split", "What to type next"),
        *("How the search went", "What the front prefers", "Time and memory", "Reproduce"),
    ):
        assert heading in found.texts
    lines = (run / "evaluations.jsonl").read_text().splitlines()
    tips = {tip.split("\n")[0] for tip in found.tips}
    assert {json.loads(line)["key"] for line in lines} <= tips


def test_the_same_folder_gives_the_same_page(run: Path) -> None:
    built = list[list[bytes]]()
    for _ in range(2):
        build_report(RunFolder(run, lock=False))
        built.append([(run / name).read_bytes() for name in ("report.html", "pareto.png")])
    assert built[0] == built[1]


def test_names_of_strangers_are_escaped(run: Path) -> None:
    evil = '<script>alert("x")</script>'
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("name: cpu-1t", f"name: '{evil}'"))
    text = page(gather(RunFolder(run, lock=False)))
    found = parsed(text)
    assert any(evil in text for text in found.texts)
    assert evil not in text


def test_energy_is_shown_where_it_was_measured(run: Path) -> None:
    assert "mJ a run" not in " ".join(rebuilt(run).texts)
    folder = next(run.glob("pareto/*"))
    found = read_manifest(folder)
    write_manifest(folder, replace(found, metrics=replace(found.measured(), energy_mj=1.2345)))
    assert "1.23 mJ a run above idle" in " ".join(rebuilt(run).texts)


def slowed(manifest: Manifest, speed: float) -> Manifest:
    """As the clock would have said on a machine of another speed."""
    found = manifest.measured()
    slower = replace(found, latency_ms=found.calibrated_ms / speed, speed=speed)
    return replace(manifest, metrics=slower)


def test_the_speed_of_the_machine_is_said_in_words(run: Path) -> None:
    for folder in run.glob("pareto/*"):
        write_manifest(folder, slowed(read_manifest(folder), 1.0))
    usual = " ".join(rebuilt(run).texts)
    assert "read as" not in usual and "The machine ran" not in usual
    for folder in run.glob("pareto/*"):
        write_manifest(folder, slowed(read_manifest(folder), 0.61))
    found = rebuilt(run)
    text, ms = " ".join(found.texts), read_manifest(folder).measured()
    read = f"read as {words.ms(ms.latency_ms)} at 0.61 of the calibrated speed"
    assert f"{words.ms(ms.calibrated_ms)}, {read}" in text
    assert words.ms(ms.calibrated_ms) in usual
    assert "The machine ran A at 0.61 of the calibrated speed" in text
    assert any("at 0.61 of the calibrated speed measured" in tip for tip in found.tips)


def test_limits_are_kept_at_the_speed_of_the_calibration(facts: Facts) -> None:
    manifest = slowed(facts.delivered[0], 0.5)
    ms, key = manifest.measured().calibrated_ms, f"{facts.letter(manifest.key)} does not keep"
    loose, tight = (replace(manifest, limits={"latency_ms": ms * by}) for by in (1.01, 0.5))
    assert key not in " ".join(notes(replace(facts, delivered=[loose])))
    said = " ".join(notes(replace(facts, delivered=[tight])))
    assert f"{key} the limits: it has latency_ms {ms:.4g}, off its limit" in said
    read = words.ms(manifest.measured().latency_ms)
    assert f"Its latency is {words.ms(ms)}, read as {read} at 0.50 of the calibrated" in said


def test_it_says_how_far_the_forecasts_were_off(facts: Facts) -> None:
    shares = ((0.9, 0.88, 0.95), (0.7, 0.74, 0.75))  # measured, promised, and the end of that
    delivered = [
        replace(
            m,
            finalists={m.key: Story()},
            metrics=replace(m.measured(), accuracy=share),
            promised=replace(
                m.promised, accuracy=told, accuracy_low=told - 0.02, accuracy_high=high
            ),
        )
        for m, (share, told, high) in zip(facts.delivered, shares, strict=False)
    ]
    stages = {**facts.stages, Stage.FORECAST: VALIDATED}
    said = " ".join(notes(replace(facts, delivered=delivered, stages=stages)))
    assert "were off by 3.0 points on average; finished, these models were 1.0 points below" in said
    assert "90% intervals held 1 of 2, which are too few to tell" in said
    assert "from 40 short trainings" in said and "off by 2.5 points" in said
    assert "90% intervals held 36 of 40." in said
    far = [replace(m, promised=replace(m.promised, accuracy_high=0.1)) for m in 2 * delivered]
    said = " ".join(notes(replace(facts, delivered=far)))
    assert "90% intervals held 0 of 4, so they are too narrow." in said
    drawn = parsed("".join(promises(replace(facts, delivered=delivered)))).texts
    assert "Accuracy: forecast and finished" in drawn
    assert any("1 of 2 lie inside" in words for words in drawn)
    assert any("finished models were trained for up to" in words for words in drawn)
    none = facts.config.with_values({"forecast.candidates": 0})
    drawn = parsed("".join(promises(replace(facts, delivered=delivered, config=none)))).texts
    assert "Accuracy: forecast and finished" not in drawn


def test_a_ladder_and_a_proxy_check_are_shown(run: Path) -> None:
    key = next(run.glob("pareto/*")).name
    row = {
        **{"name": "original", "key": "0", "runtime": "PyTorch eager", "size_mb": 1.0},
        **{"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "latency_ms": 3.0},
        **{"latency_p10_ms": 2.9, "latency_p90_ms": 3.2, "peak_memory_mb": 9.0},
        "throughput": {"1": 333.0, "8": 700.0},
    }
    searched = {**row, "name": f"searched {key}", "runtime": "onnxruntime", "latency_ms": 0.5}
    linear = {**row, "name": "linear attention", "key": key, "runtime": "onnxruntime"}
    told = {"name": "layer_to_rms", "exact": True, "beside": f"searched {key}", "moved": 3e-7}
    rms = {**searched, "name": f"searched {key}, layer_to_rms", "latency_ms": 0.4, "rewrite": told}
    plain = {**row, "name": "original, layer_to_rms", "rewrite": told | {"beside": "original"}}
    (run / "ladder.json").write_text(json.dumps([row, searched, linear, rms, plain]))
    proxy = {"n": 20, "kendall_tau": 0.8, "kendall_tau_low": 0.7, "kendall_tau_high": 0.9}
    proxy |= {"best_baseline": "params", "baselines": {"params": {"kendall_tau": 0.5}}}
    (run / "proxy.json").write_text(json.dumps(proxy | {"trusted": True}))
    found = rebuilt(run)
    text = " ".join(found.texts)
    assert "Before and after" in text
    assert "6.0x" in text
    letter = gather(RunFolder(run, lock=False)).letter(key)
    assert f"searched: {letter} layer_to_rms exact 0.80x +0.0 points 3.0e-07" in text
    assert not any("layer_to_rms" in tip for tip in found.tips)
    assert "tau 0.80 (0.70 to 0.90)" in text
    assert "never checked" not in text
    assert any(tip.startswith("original, PyTorch eager") for tip in found.tips)
    assert any(tip.startswith("linear attention, ") for tip in found.tips)
    assert "vitpareto ladder" not in text and "vitpareto proxy" not in text


def test_a_model_of_the_ladder_is_marked_and_drawn_once(run: Path) -> None:
    folder = next(run.glob("pareto/*"))
    manifest = replace(read_manifest(folder), ladder="linear attention")
    write_manifest(folder, manifest)
    letter = gather(RunFolder(run, lock=False)).letter(folder.name)
    reference = json.loads((run / "reference.json").read_text())[0]
    row = {**reference, "name": "linear attention", "key": folder.name}
    (run / "ladder.json").write_text(json.dumps([reference, row]))
    found = rebuilt(run)
    text = " ".join(found.texts)
    assert f"linear attention, delivered as {letter}" in text
    assert f"{letter} is linear attention of the ladder" in text
    assert not any(tip.startswith("linear attention, ") for tip in found.tips)


def test_speeds_are_told_against_float32_in_the_same_runtime_first(run: Path) -> None:
    facts = gather(RunFolder(run, lock=False))
    own, eager = facts.references
    assert own["runtime"] == facts.taken.device.runtime and "eager" in eager["runtime"]
    ms = facts.taken.measured().calibrated_ms
    fair, other = (f"{row['latency_ms'] / ms:.1f}x" for row in (own, eager))
    caption = tiles(facts)[1][1]
    assert (
        f"{fair} as fast as the largest network of the space in float32 in {own['runtime']}"
        in caption
    )
    assert caption.index(fair) < caption.index(f"{other} in PyTorch eager")
    assert speed(facts, facts.taken) == fair
    (run / "reference.json").write_text(json.dumps(eager))  # as runs before had it
    old = gather(RunFolder(run, lock=False))
    assert [row["runtime"] for row in old.references] == ["PyTorch eager"]
    assert (
        f"{other} as fast as the largest network of the space in float32 in PyTorch eager"
        in tiles(old)[1][1]
    )


def right(manifest: Manifest, share: float) -> Manifest:
    """The model as right as this on both splits."""
    metrics, test = manifest.measured(), manifest.test
    assert test is not None
    return replace(
        manifest,
        metrics=replace(metrics, accuracy=share),
        test=replace(test, accuracy=share - 0.1),
    )


def test_the_first_figures_are_of_the_model_that_is_exported(facts: Facts) -> None:
    """A slower one that is hardly better stands behind it, even if it is the start itself."""
    fast = facts.delivered[0]
    twice = replace(fast.measured(), latency_ms=2 * fast.measured().latency_ms)
    slow = replace(fast, key="slow", metrics=twice)
    near = replace(facts, delivered=[right(fast, 0.95), right(slow, 0.955)])
    assert pick_model(near.delivered).key == fast.key
    (share, first), (latency, second), (best, third), *_ = tiles(near)
    assert (share, best) == ("85.0%", "85.5%")
    assert first.startswith("test accuracy of A, which vitpareto export takes: ")
    teacher = words.percent(facts.teacher_accuracy)
    assert first.endswith(f" split, where it has 95.0% and the teacher has {teacher}")
    assert latency == words.ms(fast.measured().calibrated_ms) and "of A, in " in second
    assert third.startswith("test accuracy of B, the best on the validation split, in ")
    far = replace(near, delivered=[right(fast, 0.9), right(slow, 0.955)])
    (share, first), _, (latency, third), *_ = tiles(far)
    assert share == "85.5%" and "of B, which" in first
    assert latency == words.ms(fast.measured().calibrated_ms)
    assert third.startswith("a run of A, the fastest, with 90.0% on validation")
    unread = [replace(m, test=None) for m in near.delivered]
    (share, first), *_ = tiles(replace(near, delivered=unread))
    assert share == "95.0%" and first.startswith("validation accuracy of A, which ")


def test_a_start_is_what_its_models_are_compared_with(facts: Facts) -> None:
    teacher, goal = facts.teacher_accuracy, facts.goal

    def yardsticks(**models: str) -> dict[str, float]:
        named = {
            name: getattr(facts.config, name).model_copy(update={"model": model})
            for name, model in models.items()
        }
        config = facts.config.model_copy(update=named)
        return replace(facts, config=config, references=[{goal: 0.8}]).yardsticks

    assert yardsticks() == {"teacher": teacher}
    assert yardsticks(start="vit") == {"start": teacher}
    assert yardsticks(start="vit", teacher="vit") == {"start": 0.8, "teacher": teacher}


def test_times_of_sub_blocks_add_up_to_the_promise(facts: Facts) -> None:
    for manifest in facts.delivered:
        other = replace(manifest.promised, latency_ms=1.7 * manifest.promised.predicted_ms)
        for each in (manifest, replace(manifest, promised=other)):
            spent = spent_ms(facts, each)
            assert sum(spent.values()) == pytest.approx(each.promised.latency_ms)
            assert all(took > 0 for took in spent.values())


def test_the_surest_mistakes_are_shown_with_their_pictures(run: Path) -> None:
    kept = json.loads((run / "mistakes.json").read_text())
    assert kept.keys() == {"validation", "test"}
    page, found = (rebuilt(run), gather(RunFolder(run, lock=False)))
    pictures = [link for link in page.links if link.startswith("data:image/jpeg")]
    assert len(pictures) == sum(min(SHOWN, len(kept["test"][m.key])) for m in found.measured)
    listed = {row.path: row for row in found.catalog.rows}
    for split, by_model in kept.items():
        for m in found.measured:
            of_model, known = by_model[m.key], m.test_classes if split == "test" else m.classes
            wrong = sum(r.images - r.answers.get(str(i), 0) for i, r in enumerate(known))
            assert len(of_model) == min(KEPT, wrong)
            sure = [one["probability"] for one in of_model]
            assert sure == sorted(sure, reverse=True)
            for one in of_model:
                row = listed[one["path"]]
                assert found.catalog.rows[one["row"]] == row
                assert (row.split, row.label) == (split, one["label"])
                assert one["answer"] != one["label"]
    one = kept["test"][found.best.key][0]
    shown = Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2])))
    row = np.memmap(run / "pixels.u8", np.uint8).reshape(len(found.catalog.rows), -1)[one["row"]]
    difference = np.abs(np.asarray(shown, float) - row.reshape(np.asarray(shown).shape))
    assert difference.mean() < 4  # of 255, as much as JPEG takes
    tip = next(tip for tip in page.tips if tip.startswith(f"{one['path']}\n"))
    assert f"the model says {one['answer']} ({words.percent(one['probability'])})" in tip
    (run / "pixels.u8").unlink()
    assert not any(link.startswith("data:image") for link in rebuilt(run).links)


def test_the_next_commands_are_of_this_run(run: Path) -> None:
    lines = [command for _, command in next_commands(gather(RunFolder(run, lock=False)))]
    verbs = [shlex.split(line)[1] for line in lines]
    assert [verb for verb in verbs if verb.isalpha()] == [
        *("export", "predict", "verify", "ladder", "proxy")
    ]
    export, predict = (shlex.split(line) for line in (lines[0], lines[2]))
    done = invoke(*export[1:-1], run / "app")
    assert done.exit_code == 0, done.output
    key = export[export.index("--pick") + 1]
    assert (run / "app" / key / "predict.py").is_file()
    done = invoke(*predict[1:])
    assert done.exit_code == 0 and key in done.output, done.output
    config, *words = shlex.split(lines[-1])[2:]
    assert Path(config) == run / "config.yaml" and words == ["--run-dir", str(run)]


def test_images_of_each_split_and_class_are_counted(run: Path) -> None:
    found = rebuilt(run)
    with (run / "images.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    start = found.texts.index("validation", found.texts.index("Which images are in which split"))
    cells = found.texts[start + 2 : start + 7]
    counts = [sum(r["label"] == "0" and r["split"] == s for r in rows) for s in SPLITS]
    assert cells == ["0", *map(str, counts)]


def test_intervals_that_do_not_hold_and_restless_sessions_are_said(facts: Facts) -> None:
    def said(**figures: float) -> str:
        model = copy(facts.cost_model)
        model.validation = {**facts.cost_model.validation, **figures}
        return " ".join(notes(replace(facts, cost_model=model)))

    calm = {"unsettled": 0, "sessions": 8, "sessions_with_alarm": 1, "coverage_of_90": 90.0}
    assert "predicted latencies held" not in said(**calm) and "restless" not in said(**calm)
    narrow = said(**calm | {"coverage_of_90": 65.0})
    assert "held 65% of what was measured on these networks: true latencies lie outside" in narrow
    assert "they are wide" in said(**calm | {"coverage_of_90": 100.0})
    restless = said(**calm | {"sessions_with_alarm": 7, "unsettled": 1})
    assert "7 of 8 sessions, and 1 measurement never settled" in restless


def test_what_was_never_checked_is_said(facts: Facts) -> None:
    assert "never checked" in trust(facts)
    assert trust(facts) in notes(facts)


def test_what_was_wrong_with_images_is_said(facts: Facts) -> None:
    wrong = {
        "warnings": ["2 pictures stand under two labels"],
        "skipped": [{"reason": "damaged", "count": 3, "first": ["a.jpg"]}],
    }
    said = " ".join(notes(replace(facts, images=wrong)))
    assert "Images: 2 pictures stand under two labels." in said
    assert "left out: 3 damaged" in said


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


def test_a_run_without_models_says_how_to_go_on(run: Path) -> None:
    shutil.rmtree(run / "pareto")
    with pytest.raises(RunError, match="no delivered models; continue the run with --resume"):
        build_report(RunFolder(run, lock=False))


def test_a_model_that_another_one_beats_is_named(facts: Facts) -> None:
    best, worse = (
        replace(
            m, metrics=replace(m.measured(), accuracy=a, latency_ms=ms, speed=1 / ms, size_mb=1)
        )
        for m, a, ms in zip(facts.delivered[:2], (0.9, 0.8), (2.0, 1.0), strict=True)
    )  # equally fast at the speed of the calibration
    assert "B is beaten by A in accuracy" in " ".join(
        notes(replace(facts, delivered=[best, worse]))
    )
    worse = replace(worse, metrics=replace(worse.measured(), size_mb=0.5))
    assert "beaten" not in " ".join(notes(replace(facts, delivered=[best, worse])))


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
