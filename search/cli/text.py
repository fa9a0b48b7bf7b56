"""Lines that commands print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...cost_models.tables.anchors import speed_words
from ..counted import counted
from ..letters import letters_of
from ..pareto.objectives import spelled

if TYPE_CHECKING:
    from ..delivery.manifest import Manifest
    from ..delivery.verify import Report
    from ..report.rewrites import Change

Facts = Mapping[str, Any]


def model_lines(manifests: Sequence[Manifest]) -> list[str]:
    """Delivered models, and the failed checks of those that are not verified."""
    lines = [f"{'model':16}  {_right(manifests):>8}  {'test':>6}  {'ms':>8}  {'MB':>7}  verified"]
    for m in manifests:
        metrics, words = m.figures, speed_words(m.figures.speed)
        share = f"{metrics.interval(m.goal)[1]:8.1%}"
        test = f"{m.test.interval(m.goal)[1]:.1%}" if m.test else "?"
        lines.append(
            f"{m.key:16}  {share}  {test:>6}  {metrics.calibrated_ms:8.3f}  "
            f"{metrics.size_mb:7.3f}  {verified(m):8}"
            + (f"  read as {metrics.latency_ms:.3f} ms {words}" if words else "")
            + (f"  {m.ladder}, from the ladder" if m.ladder else "")
        )
    return [line.rstrip() for line in lines] + [
        f"{m.key} is not verified: {c}" for m in manifests for c in m.checks if not c.holds
    ]


def choice_lines(manifests: Sequence[Manifest], chosen: Manifest) -> list[str]:
    """Delivered models, the fastest first, with a mark at the one that was chosen."""
    lines = [f"   {'model':16}  {_right(manifests):>8}  {'ms':>8}  {'MB':>7}  verified"]
    for letter, m in zip(letters_of(manifests), manifests, strict=True):
        metrics, mark = m.figures, "->" if m.key == chosen.key else "  "
        lines.append(
            f"{mark} {letter} {m.key}  {metrics.interval(m.goal)[1]:6.1%}  "
            f"{metrics.calibrated_ms:8.3f}  {metrics.size_mb:7.3f}  {verified(m)}"
        )
    return lines


def _right(manifests: Sequence[Manifest]) -> str:
    """Word for how right models are: accuracy, or balanced where classes count alike."""
    return spelled(manifests[0].goal).partition(" ")[0]


def model_table(manifests: Sequence[Manifest]) -> list[str]:
    """Delivered models as a table for a README."""
    name = spelled(manifests[0].goal)
    lines = [
        f"| model | test {name} (95% interval) | latency | size | memory | verified |",
        "|---|---|---|---|---|---|",
    ]
    for letter, m in zip(letters_of(manifests), manifests, strict=True):
        t, metrics = m.test, m.figures
        share = "not read"
        if t:
            low, middle, high = t.interval(m.goal)
            share = f"{middle:.1%} ({100 * low:.1f} to {100 * high:.1f})"
        words = speed_words(metrics.speed)
        read = f", read as {metrics.latency_ms:.3f} ms {words}" if words else ""
        latency = f"{metrics.calibrated_ms:.3f} ms{read}"
        model = f"{letter} ({m.ladder})" if m.ladder else letter
        lines.append(
            f"| {model} | {share} | {latency} | {metrics.size_mb:.2f} MB "
            f"| {metrics.peak_memory_mb:.0f} MB | {verified(m)} |"
        )
    return lines


def check_lines(reports: Sequence[Report]) -> list[str]:
    """Every check of every artifact."""
    return [
        f"{report.key}  {'ok' if c.holds else 'FAILED':6}  {c.name}: "
        f"{number(c.found)}, wanted {c.wanted}"
        for report in reports
        for c in report.checks
    ] + [f"{report.key}  {report.status}" for report in reports if report.status]


def history_lines(reports: Sequence[Report], history: Mapping[str, Sequence[Facts]]) -> list[str]:
    """What models measured each time, of those that were measured more than once."""
    from ..delivery.history import history_words

    found = {report.key: history_words(history.get(report.key, ())) for report in reports}
    return [
        f"{key}  measured, at the calibrated speed, {words}"
        for key, words in found.items()
        if words
    ]


def ladder_lines(rows: Sequence[Facts], goal: str, added: Sequence[Manifest]) -> list[str]:
    """Models measured side by side, and those of them that were delivered.

    Args:
        rows: of the ladder.
        goal: name of the accuracy that the run maximizes.
        added: manifests of baselines that are on the front.
    """
    name = spelled(goal)
    width = max(8, len(name))
    lines = [
        f"{'model':26}  {name:>{width}}  {'ms':>8}  {'10% - 90%':>19}  {'images/s':>8}  {'MB':>7}  "
        f"{'peak MB':>7}  {'images/J':>8}  runtime"
    ]
    for row in (row for row in rows if not row.get("rewrite")):
        spread = f"{row['latency_p10_ms']:.3f} - {row['latency_p90_ms']:.3f}"
        lines.append(
            f"{row['name']:26}  {row[goal]:{width}.1%}  {row['latency_ms']:8.3f}  {spread:>19}  "
            f"{max(row['throughput'].values()):8.0f}  {row['size_mb']:7.3f}  "
            f"{row['peak_memory_mb']:7.1f}  {known(row.get('images_per_joule'), '8.3g')}  "
            f"{row['runtime']}"
        )
    if not any(row.get("images_per_joule") for row in rows):
        lines.append("images/J: not known here, no counter of energy tells (`vitpareto devices`)")
    lines += _stage_lines(rows, goal) + _rewrite_lines(rows, goal)
    if words := next((speed_words(row["speed"]) for row in rows), ""):
        lines.append(f"Latencies are at the calibrated speed; the machine ran {words}.")
    return lines + [
        f"{m.ladder} is on the front and delivered: {m.key}"
        + ("" if m.verified else ", not verified")
        for m in added
    ]


def _stage_lines(rows: Sequence[Facts], goal: str) -> list[str]:
    """What each stage made of the one before, and of the original."""
    from ..report.cumulative import stages

    applied = stages(rows, goal)
    if not applied:
        return []
    lines = ["in the order in which they were applied, beside the stage before (and the original)"]
    lines += [
        f"  {s.name:24}  {s.latency:5.2f} of the latency ({s.latency_so_far:.2f}), {s.size:.2f} of "
        f"the size, {s.memory:.2f} of the memory, {spelled(goal)} {s.accuracy * 100:+.1f} points "
        f"({s.accuracy_so_far * 100:+.1f})"
        for s in applied
    ]
    return lines


def _rewrite_lines(rows: Sequence[Facts], goal: str) -> list[str]:
    """What other bits and other operations made of a model."""
    from ..report.rewrites import changes

    bits, operations = changes(rows, goal)
    other = "with parts in other operations, beside the model as it was (exact: before rounding)"
    return [
        *_change_lines("in one precision throughout, beside the bits that were chosen", bits, goal),
        *_change_lines(other, operations, goal),
    ]


def _change_lines(title: str, found: Sequence[Change], goal: str) -> list[str]:
    """Models in other bits or operations, beside themselves."""
    lines = [title] if found else []
    for c in found:
        name = f"{c.name}, {c.label}" if c.label else c.name
        lines.append(
            f"  {c.beside:26}  {name:25}  {c.latency:5.2f} of the latency, {c.size:5.2f} of the "
            f"size, {spelled(goal)} {c.accuracy * 100:+.1f} points, logits moved by {c.moved:.1e}"
        )
    return lines


def proxy_lines(figures: Facts) -> list[str]:
    """Figures of a proxy check."""
    rows = {
        "Kendall's tau": "kendall_tau",
        "Spearman's rho": "spearman",
        "tau inside terciles of size": "within_tercile_tau",
        "what seeds allow": "noise_ceiling",
        f"ahead of {figures['best_baseline']} alone": "advantage",
        "lost by taking the first": "top_1_regret",
        "lost by taking the first five": "top_5_regret",
    }
    lines: list[str] = []
    for label, name in rows.items():
        low, value, high = (figures[f"{name}{end}"] for end in ("_low", "", "_high"))
        known = value is not None and low is not None
        lines.append(
            f"{label:30} " + (f"{value:6.3f}  ({low:.3f} to {high:.3f})" if known else "?")
        )
    cut = ("raw", "repaired", "assembled", "inherited")
    others = {f"tau of {name} weights": figures[name] for name in cut if name in figures}
    others |= {f"tau of {steps} steps alone": short for steps, short in figures["short"].items()}
    for label, other in others.items():
        low, value, high = (other[f"kendall_tau{end}"] for end in ("_low", "", "_high"))
        time = f", {other['score_ms']:.0f} ms" if "score_ms" in other else ""
        time += f", {other['mean']:.1%} right" if "mean" in other else ""
        lines.append(f"{label:30} {value:6.3f}  ({low:.3f} to {high:.3f}){time}")
    signs = figures["sign_agreement"]["all"]
    lines.append(f"{'pairs ordered alike':30} {signs['agree']:g} of {signs['pairs']}")
    lines.append(f"{'milliseconds a score':30} {figures['score_ms']:6.1f}")
    if forecast := figures.get("forecast"):
        off, bias = 100 * forecast["mean_error"], 100 * forecast["bias"]
        lines.append(
            f"{'mean error of the forecast':30} {off:6.1f} points, on average {bias:+.1f}; "
            f"90% intervals hold {forecast['coverage_90']:.0%}"
        )
    lines.append(f"{'trusted':30} {figures.get('verdict', yes(figures['trusted']))}")
    return lines


def prediction_lines(rows: Sequence[Facts]) -> list[str]:
    """Predicted costs of candidates and files; "-" for unknown values."""
    has_energy = any("energy_mj" in r for r in rows)
    width = max(16, *(len(r["key"]) for r in rows))
    header = f"{'key':{width}}  {'ms':>9}  {'90% interval':>19}  {'peak MB':>8}  {'size MB':>8}"
    lines = [header + (f"  {'mJ':>8}  {'90% interval':>19}" if has_energy else "")]
    for r in rows:
        interval = f"{r['low_ms']:.3f} - {r['high_ms']:.3f}"
        cells = [
            f"{r['key']:{width}}",
            f"{r['latency_ms']:9.3f}",
            f"{interval:>19}",
            known(r["peak_memory_mb"], "8.1f"),
            known(r["size_mb"], "8.3f"),
        ]
        if has_energy:
            ends = [known(r.get(f"energy_{end}_mj"), ".3g") for end in ("low", "high")]
            cells += [known(r.get("energy_mj"), "8.3g"), f"{' - '.join(ends):>19}"]
        if not r["inside"]:
            share = f"{1 - r['coverage']:.0%} " if "coverage" in r else ""
            cells.append(f"{share}outside of what was measured")
        lines.append("  ".join(cells))
        for why, share in r.get("doubts", {}).items():
            lines.append(f"  {'<1%' if share < 0.005 else f'{share:.0%}':>4}  {why}")
    return lines


def known(value: float | None, form: str) -> str:
    """A figure in a format, or "-" in its place."""
    width = form.partition(".")[0]
    return f"{'-':>{width or 1}}" if value is None else f"{value:{form}}"


def device_lines(
    listed: Sequence[Facts],
    tables: Mapping[str, Sequence[Facts]],
    refused: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """Devices, and the kernels of each precision on those that were measured.

    Args:
        listed: devices.
        tables: name -> kernels of sub-blocks by precision.
        refused: name -> kind of sub-block -> why it cannot be run.
    """
    lines = [
        f"{d['name']:14} {d['provider']:28} {counted(d['threads'], 'thread'):9}  "
        + (f"{d['runtime']} {d['version']}" if d["available"] else d["reason"])
        for d in listed
    ]
    meters: dict[str, list[str]] = {}
    for d in listed:
        if d["available"]:
            words = d["meter"] or f"not measured, {d['meter_reason']}"
            meters.setdefault(words, []).append(d["name"])
    lines += ["", *(f"energy of {', '.join(names)}: {words}" for words, names in meters.items())]
    header = f"{'sub-block':12} {'recipe':15} {'ms':>8} {'speed':>7} {'bytes':>6}  kernels"
    for name, rows in tables.items():
        lines += ["", name, header]
        for r in rows:
            kernels = ", ".join(f"{k} {n}" for k, n in r["kernels"].items())
            lines.append(
                f"{r['kind']:12} {r['recipe']:15} {r['latency_ms']:8.3f} {r['speedup']:6.2f}x "
                f"{r['size_ratio']:6.2f}  {kernels}"
            )
        lines += [f"{kind:12} cannot be run: {why}" for kind, why in refused[name].items()]
    shown = (r["recipe"] for rows in tables.values() for r in rows)
    return lines + recipe_lines(shown)


def recipe_lines(names: Iterable[str]) -> list[str]:
    """What each of some recipes is, float aside."""
    from ...cost_models.units.precision_recipes import RECIPES

    told = {name: RECIPES[name].summary for name in names if name in RECIPES and name != "float"}
    return [""] * bool(told) + [f"{name}: {summary}" for name, summary in told.items()]


def verified(manifest: Manifest) -> str:
    """Whether a model is verified, and where its device is another machine what is known of it."""
    elsewhere = manifest.is_predicted or manifest.kit
    return manifest.state if elsewhere else yes(manifest.verified)


def yes(holds: bool) -> str:
    """Yes or no."""
    return "yes" if holds else "no"


def number(value: Any) -> str:
    """A figure that may be a word."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
