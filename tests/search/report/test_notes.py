"""What the report says in words of a run: figures, promises, and what to keep in mind."""

import json
from copy import copy
from dataclasses import replace
from pathlib import Path

from vitpareto.search.delivery.claims import Story
from vitpareto.search.delivery.manifest import Manifest, read_manifest, write_manifest
from vitpareto.search.delivery.pick import pick_model
from vitpareto.search.report import words
from vitpareto.search.report.facts import Facts, gather
from vitpareto.search.report.models import speed
from vitpareto.search.report.notes import notes, trust
from vitpareto.search.report.page import tiles
from vitpareto.search.report.promises import promises
from vitpareto.search.run.stage import Stage
from vitpareto.search.store.run_folder import RunFolder

from .sound import parsed, rebuilt

VALIDATED = {"validated_n": 40, "validated_mean_error": 0.025, "validated_coverage_90": 0.9}


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


def trading(facts: Facts, name: str, *delivered: Manifest) -> str:
    """Notes of a run that trades one more metric, and has delivered these models."""
    search = facts.config.search
    search = search.model_copy(update={"objectives": ("accuracy", "latency_ms", name)})
    config = facts.config.model_copy(update={"search": search})
    return " ".join(notes(replace(facts, config=config, delivered=delivered)))


def test_a_model_is_beaten_only_in_all_that_was_traded(facts: Facts) -> None:
    first, second = facts.delivered[:2]
    better = replace(first.measured(), accuracy=0.9, latency_ms=1.0, speed=1.0)
    worse = replace(better, accuracy=0.8, latency_ms=2.0)

    def said(name: str, few: float, many: float) -> str:
        counts = (replace(m.promised, **{name: n}) for m, n in ((first, many), (second, few)))
        models = zip((first, second), (better, worse), counts, strict=True)
        return trading(facts, name, *(replace(m, metrics=x, promised=p) for m, x, p in models))

    for name in ("params", "macs"):
        assert "is beaten by" not in said(name, 1e3, 2e3)
        assert f"B is beaten by A in accuracy, latency_ms, {name}" in said(name, 2e3, 1e3)


def test_a_model_whose_energy_is_not_known_is_not_compared(facts: Facts) -> None:
    first, second = facts.delivered[:2]
    better = replace(first.measured(), accuracy=0.9, latency_ms=1.0, speed=1.0)
    worse = replace(better, accuracy=0.8, latency_ms=2.0)

    def said(energy: float | None, other: float | None) -> str:
        models = ((first, better, energy), (second, worse, other))
        delivered = (replace(m, metrics=replace(x, energy_mj=mj)) for m, x, mj in models)
        return trading(facts, "energy_mj", *delivered)

    assert "is beaten by" not in said(1.0, None) + said(None, 1.0)
    assert "B is beaten by A in accuracy, latency_ms, energy_mj" in said(1.0, 1.0)
    assert "B is beaten by A in accuracy, latency_ms:" in said(None, None)
