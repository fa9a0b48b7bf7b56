"""The report of a finished run: complete, sound, escaped, and from the folder alone."""

import base64
import csv
import io
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpareto.search.data.splits import SPLITS
from vitpareto.search.delivery.manifest import read_manifest, write_manifest
from vitpareto.search.delivery.mistakes import KEPT
from vitpareto.search.report import build_report, words
from vitpareto.search.report.commands import next_commands
from vitpareto.search.report.facts import gather
from vitpareto.search.report.mistakes import SHOWN
from vitpareto.search.report.page import page
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.spaces.errors import RunError

from ..conftest import invoke
from .sound import parsed, rebuilt


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
    half = {**searched, "name": f"searched {key}, float16", "size_mb": 0.6}
    half["rewrite"] = told | {"name": "float16", "exact": None}
    (run / "ladder.json").write_text(json.dumps([row, searched, linear, half, rms, plain]))
    proxy = {"n": 20, "kendall_tau": 0.8, "kendall_tau_low": 0.7, "kendall_tau_high": 0.9}
    proxy |= {"best_baseline": "params", "baselines": {"params": {"kendall_tau": 0.5}}}
    (run / "proxy.json").write_text(json.dumps(proxy | {"trusted": True}))
    found = rebuilt(run)
    text = " ".join(found.texts)
    assert "Before and after" in text
    assert "6.0x" in text
    letter = gather(RunFolder(run, lock=False)).letter(key)
    assert f"searched: {letter} layer_to_rms exact 0.80x 1.00x +0.0 points 3.0e-07" in text
    assert f"searched: {letter} float16   1.00x 0.60x +0.0 points 3.0e-07" in text
    assert "Stage by stage" in text
    assert f"searched: {letter} 0.17x (0.17x) 1.00x 1.00x +0.0 points (+0.0)" in text
    assert not any("layer_to_rms" in tip or "float16" in tip for tip in found.tips)
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


def test_no_command_is_told_whose_file_is_not_there(run: Path) -> None:
    facts = gather(RunFolder(run, lock=False))
    chosen = replace(facts.taken, files={"model.mlpackage.zip": "0"})
    facts = replace(facts, delivered=[chosen])
    assert not any("predict.py" in command for _, command in next_commands(facts))


def test_images_of_each_split_and_class_are_counted(run: Path) -> None:
    found = rebuilt(run)
    with (run / "images.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    start = found.texts.index("validation", found.texts.index("Which images are in which split"))
    cells = found.texts[start + 2 : start + 7]
    counts = [sum(r["label"] == "0" and r["split"] == s for r in rows) for s in SPLITS]
    assert cells == ["0", *map(str, counts)]


def test_a_run_without_models_says_how_to_go_on(run: Path) -> None:
    shutil.rmtree(run / "pareto")
    with pytest.raises(RunError, match="no delivered models; continue the run with --resume"):
        build_report(RunFolder(run, lock=False))
