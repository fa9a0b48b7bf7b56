"""Notes: warnings that a reader needs before trusting the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ...cost_models.calibration.validation import complaint
from ...cost_models.hand_over import expectation
from ...cost_models.tables.anchors import speed_words
from ..counted import counted
from ..data.catalog import without_copies
from ..delivery.claims import plain
from ..delivery.manifest import Manifest
from ..loop.nearest_feasible import misses
from ..pareto.objectives import Objective
from ..run.stage import Stage
from ..run.targeting import recorded
from ..scoring.forecast_errors import errors
from .facts import Facts
from .words import latency, number, percent

LEVEL = 0.9  # of the intervals
ENOUGH = 30  # models that tell how often intervals hold
RARE = 0.01  # chance of so few in right intervals, below which they are called too narrow
LEAST, MOST = 80, 97  # percent that such intervals hold where they are right


def notes(facts: Facts) -> list[str]:
    """Warnings, the gravest first."""
    return [
        *_unmet(facts),
        *_unverified(facts),
        *_beaten(facts),
        *_rollbacks(facts),
        *_left_out(facts),
        *_exits(facts),
        *_images(facts),
        *_training(facts),
        *_trust(facts),
        *_forecasts(facts),
        *_cost_model(facts),
        *_test_split(facts),
        *_budget(facts),
    ]


def _left_out(facts: Facts) -> Iterator[str]:
    """What the space goes without, as the device cannot execute it."""
    if line := recorded(facts.folder):
        yield f"{line.removeprefix('space: ')}."


def _exits(facts: Facts) -> Iterator[str]:
    """What the search expected of exits."""
    if words := expectation(e.candidate for e in facts.evaluations):
        yield f"{words.capitalize()}."


def trust(facts: Facts) -> str:
    """Sentence on how well the accuracies of the search rank candidates."""
    check = facts.proxy
    if not check:
        return (
            "The order in which the search put candidates was never checked against training "
            "them alone on this data. To check it: vitpareto proxy "
            f"{facts.folder.config} --run-dir {facts.folder.path}"
        )
    low, high = check.get("kendall_tau_low"), check.get("kendall_tau_high")
    known = f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
    best = check["best_baseline"]
    return (
        f"The search's scores were compared with {check['n']} candidates trained alone: Kendall's "
        f"tau {check['kendall_tau']:.2f}{known}, where {best} alone reaches "
        f"{check['baselines'][best]['kendall_tau']:.2f}. The scores are " + _worth(check)
    )


def _worth(check: Mapping[str, Any]) -> str:
    """End of the sentence "The scores are"."""
    if check["trusted"]:
        return "worth more than that."
    if check.get("verdict") == "no":
        return "not worth more than that."
    more = check.get("verdict", "").partition(", ")[2]  # runs of 0.2 have none
    return "not known to be worth more than that" + (f": {more} tell." if more else ".")


def _unmet(facts: Facts) -> Iterator[str]:
    for manifest in facts.measured:
        limits = [Objective(name, limit) for name, limit in manifest.limits.items()]
        measured = manifest.measured()
        values = manifest.promised.counts | measured.at_calibrated_speed()
        if missed := misses(values, limits):
            read = f" Its latency is {latency(measured)}." if speed_words(measured.speed) else ""
            yield f"{facts.letter(manifest.key)} does not keep the limits: it has {missed}.{read}"


def _unverified(facts: Facts) -> Iterator[str]:
    predicted = [m for m in facts.delivered if m.is_predicted]
    if predicted:
        letters, run = ", ".join(facts.letter(m.key) for m in predicted), facts.folder.path
        yield (
            f"{letters}: predicted for {predicted[0].machine}, not verified on it: latencies and "
            "memory are those of the cost model, and accuracies are those of this machine. To "
            f"measure them there: vitpareto export {run} --kit DIR"
            + (f" --device {facts.folder.device}" if facts.folder.device else "")
        )
    for manifest in facts.delivered:
        if manifest.broken:
            broken = [c for c in manifest.checks if not c.holds]
            reasons = ", ".join(f"{c.name} {number(c.found)}, wanted {c.wanted}" for c in broken)
            yield (
                f"{facts.letter(manifest.key)} is not verified, so not to be relied on: "
                f"{reasons or 'it was not measured'}."
            )


def _beaten(facts: Facts) -> Iterator[str]:
    """Models that another one dominates in the traded metrics, as measured.

    One of which a metric is not known that others have, such as an energy too small to be told
    from what the machine draws idle, is not compared.
    """
    values = {m.key: m.promised.counts | m.measured().at_calibrated_speed() for m in facts.measured}
    seen = {name for known in values.values() for name in known}
    traded = [o for o in facts.objectives if o.traded and o.name in seen]
    losses = {
        key: [o.loss(known[o.name]) for o in traded]
        for key, known in values.items()
        if all(o.name in known for o in traded)
    }
    for key, own in losses.items():
        for other, others in losses.items():
            if others != own and all(a <= b for a, b in zip(others, own, strict=True)):
                yield (
                    f"{facts.letter(key)} is beaten by {facts.letter(other)} in "
                    f"{', '.join(o.name for o in traded)}: there is no reason to take it"
                    f"{facts.folder.device and f' on {facts.folder.device}'}."
                )
                break


def _rollbacks(facts: Facts) -> Iterator[str]:
    """Compression that was taken back of the search's choices, and why."""
    for manifest in facts.delivered:
        yield from rollbacks(manifest, facts.letter(manifest.key))


def rollbacks(manifest: Manifest, letter: str) -> Iterator[str]:
    """The same for one model."""
    for key, story in manifest.finalists.items():
        if story.refused:
            broken = [c.name for c in story.refused[0].checks if not c.holds]
            steps, told = story.taken_back, "; ".join(story.taken_back) or "none was possible"
            yield (
                f"Finalist {key} did not hold ({', '.join(broken)}). {letter} is what it became "
                f"after {counted(len(steps), 'step')} back: {told}."
            )
        if undone := story.undone:
            yield (
                f"{letter}: {counted(len(undone), 'stage')} made it less right and "
                f"{'was' if len(undone) == 1 else 'were'} undone: {'; '.join(map(str, undone))}."
            )


def _images(facts: Facts) -> Iterator[str]:
    """What the survey of the images warned of, and what was left out."""
    for line in facts.images.get("warnings", []):
        yield f"Images: {line}."
    rows = without_copies(facts.images.get("skipped", []))
    skipped = [f"{row['count']} {row['reason']}" for row in rows]
    if skipped:
        yield f"Files that were left out: {', '.join(skipped)}; images.csv names the images."


def _training(facts: Facts) -> Iterator[str]:
    for name, results in facts.stages.items():
        for alarm in results.get("alarms", []):
            yield f"Training of the {name}: {alarm}."
    if facts.failed:
        yield f"{counted(facts.failed, 'candidate')} could not be scored; log.txt says why."


def _trust(facts: Facts) -> Iterator[str]:
    if not facts.proxy or not facts.proxy["trusted"]:
        yield trust(facts)


def _forecasts(facts: Facts) -> Iterator[str]:
    """How far forecasts were from accuracies of examples, and of models that were finished."""
    learned = facts.stages.get(Stage.FORECAST, {})
    if "validated_mean_error" in learned:
        n, points = learned["validated_n"], 100 * learned["validated_mean_error"]
        yield (
            f"Accuracies of candidates are forecasts, learned from {n} short trainings. By "
            f"cross-validation these were off by {points:.1f} points on average, and "
            f"{_held(learned['validated_coverage_90'], n)}."
        )
    finished = [m for m in facts.measured if m.as_forecast]
    if len(finished) < 2:
        return
    truth = [m.measured().interval(facts.goal)[1] for m in finished]
    off = errors([plain(m.promised) for m in finished], truth, facts.goal)
    points, mean = 100 * off["mean_error"], -100 * off["bias"]
    side = "above" if mean > 0 else "below"
    also = "The same may be expected of the others."
    if facts.refresh.models:
        also = f"{_held(off['coverage_90'], len(finished)).capitalize()}. "
        also += "Accuracies of all candidates, as they are shown here, are moved by that."
    yield (
        f"Accuracies promised to {len(finished)} delivered models before their training were off "
        f"by {points:.1f} points on average; finished, these models were {abs(mean):.1f} points "
        f"{side} them. {also}"
    )


def _held(share: float, n: int) -> str:
    """How often 90% intervals held, and whether so few can tell."""
    held = round(share * n)
    chance = sum(math.comb(n, k) * LEVEL**k * (1 - LEVEL) ** (n - k) for k in range(held + 1))
    few = "" if n >= ENOUGH else ", which are too few to tell whether they are right"
    return f"90% intervals held {held} of {n}{', so they are too narrow' if chance < RARE else few}"


def _cost_model(facts: Facts) -> Iterator[str]:
    errors = facts.cost_model.validation
    if "mape" in errors:
        yield (
            f"Latencies of candidates are predictions. On {errors['networks_fresh']} networks "
            f"that the cost model had not seen they were off by {errors['mape']:.1f}% on average."
        )
    else:
        yield "Latencies of candidates are predictions, which were not checked on fresh networks."
    covered, sessions = errors.get("coverage_of_90"), errors.get("sessions", 0)
    if covered is not None and not LEAST <= covered <= MOST:
        counsel = "true latencies lie outside more often" if covered < LEAST else "they are wide"
        yield (
            f"The 90% intervals of predicted latencies held {covered:.0f}% of what was measured on "
            f"these networks: {counsel}."
        )
    alarms, unsettled = (errors.get(name, 0) for name in ("sessions_with_alarm", "unsettled"))
    if complaint(unsettled, alarms, sessions):
        total = f"{alarms} of {counted(sessions, 'session')}" if sessions else str(alarms)
        never = f", and {counted(unsettled, 'measurement')} never settled" if unsettled else ""
        yield (
            f"The machine was restless while it was calibrated: its speed changed in {total}"
            f"{never}. A calibration while nothing else runs gives narrower and truer intervals."
        )
    outside = [facts.letter(m.key) for m in facts.measured if not m.inside_interval]
    if outside:
        yield (
            "Measured latency, at the calibrated speed, is outside of the promised "
            f"{percent(LEVEL)} interval for {', '.join(outside)}."
        )


def _budget(facts: Facts) -> Iterator[str]:
    """What the lengths of a run with a budget were, and what more time would buy."""
    if facts.budget.get("more"):
        chosen = facts.budget["chosen"].values()
        values = ", ".join(f"{k} {v}" for stage in chosen for k, v in stage["values"].items())
        yield f"A budget of {facts.config.budget} chose {values}. {facts.budget['more']}."


def _test_split(facts: Facts) -> Iterator[str]:
    tests = [m.test.interval(facts.goal) for m in facts.delivered if m.test]
    if tests:
        half = max(high - low for low, _, high in tests) / 2
        yield (
            f"Test accuracies are known to about {percent(half)}: smaller differences mean nothing."
        )
        if len(tests) > 1:
            yield "Choose by validation accuracy; the test split was read once, to report."
