"""Report: what a run came to, as one HTML file that needs nothing else, and as a picture."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from ..cost_models import CostModel
from .config import load_config
from .evaluate import Evaluation
from .files import read_json, write_atomic
from .manifest import manifests
from .objectives import Objective, pareto_front
from .store import RunFolder, read_evaluations

PLANE = [Objective("latency_ms"), Objective("accuracy")]
DELIVERED = (
    "model",
    "verified",
    "validation accuracy",
    "test accuracy",
    "latency, ms",
    "predicted, ms",
    "size, MB",
)
CHECKS = ("model", "check", "holds", "found", "wanted")
LADDER = (
    *("model", "runtime", "accuracy", "latency, ms (10% to 90%)"),
    *("images/s at batch 1, 2, 4, 8", "peak memory, MB", "size, MB"),
)
STAGES = ("stage", "seconds", "peak memory, MB", "results")

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem }}
img {{ max-width: 100% }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: 0.9rem }}
td, th {{ border-bottom: 1px solid #ddd; padding: 0.3rem 0.8rem; text-align: left }}
pre {{ background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 0.8rem }}
</style>
{body}
</html>
"""


def build_report(folder: RunFolder) -> None:
    """Write `pareto.png` and `report.html` from the files of a run alone.

    Raises:
        RunError: nothing was delivered yet.
    """
    config = load_config(folder.config)
    scored, _ = read_evaluations(folder.evaluations)
    evaluations = [e for e in scored if e.status == "complete"]
    front = pareto_front(evaluations, config.search.resolve())
    delivered = manifests(folder.pareto)
    picture = draw(evaluations, front, delivered, config.search.limits)
    write_atomic(folder.picture, picture)
    stages = read_json(folder.stages)
    image = base64.b64encode(picture).decode()
    body = [
        f"<h1>{_text(folder.path.name)}</h1>",
        f"<p>{_summary(config.space, config.device.name, evaluations, front, delivered)}</p>",
        f'<img alt="Accuracy against latency" src="data:image/png;base64,{image}">',
        "<h2>Delivered models</h2>",
        _table(DELIVERED, [_delivered_row(m) for m in delivered]),
        "<h2>What was promised, and what was measured</h2>",
        _table(CHECKS, [row for m in delivered for row in _check_rows(m)]),
        *_ladder(folder),
        "<h2>What to keep in mind</h2>",
        "<ul>" + "".join(f"<li>{_text(w)}</li>" for w in warnings(folder, delivered)) + "</ul>",
        "<h2>Stages</h2>",
        _table(STAGES, [_stage_row(name, facts) for name, facts in stages.items()]),
        "<h2>Reproduce</h2>",
        f"<pre>{_text(folder.config.read_text())}</pre>",
        f"<pre>{_text(folder.environment.read_text())}</pre>",
    ]
    page = PAGE.format(title=_text(folder.path.name), body="\n".join(body))
    write_atomic(folder.report, page)


def warnings(folder: RunFolder, delivered: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader must know before trusting the figures."""
    found = [
        "The ranking of candidates by inherited weights was not compared with stand-alone "
        "training on this data."
    ]
    found += [line for m in delivered for line in _rollbacks(m)]
    failed = [m["key"] for m in delivered if not m["verified"]]
    if failed:
        found.append(f"Not verified, so not to be relied on: {', '.join(failed)}.")
    validation = CostModel.load(folder.cost_model).validation
    if "mape" in validation:
        found.append(
            f"The cost model's mean error on {validation['networks_fresh']} networks that it had "
            f"not seen is {validation['mape']:.1f}%."
        )
    tests = [m["test"] for m in delivered if "test" in m]
    if tests:
        half = max(t["accuracy_high"] - t["accuracy_low"] for t in tests) / 2
        found.append(
            f"Test accuracies are known to about {half:.1%}: smaller differences mean nothing."
        )
    return found


def draw(
    evaluations: Sequence[Evaluation],
    front: Sequence[Evaluation],
    delivered: Sequence[dict[str, Any]],
    limits: dict[str, float],
) -> bytes:
    """Accuracy against latency: scored candidates, their front, delivered models; as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    spots = axes.scatter(
        [e.metrics["latency_ms"] for e in evaluations],
        [100 * e.metrics["accuracy"] for e in evaluations],
        c=[e.metrics["size_mb"] for e in evaluations],
        s=14,
        alpha=0.6,
        cmap="viridis_r",
        label="scored: inherited weights, predicted latency",
    )
    figure.colorbar(spots, label="size, MB")
    two = sorted(pareto_front(front, PLANE), key=lambda e: e.metrics["latency_ms"])
    axes.step(
        [e.metrics["latency_ms"] for e in two],
        [100 * e.metrics["accuracy"] for e in two],
        where="post",
        color="grey",
        linewidth=1,
        label="their front",
    )
    for verified, marker, label in (
        (True, "*", "delivered, verified"),
        (False, "x", "not verified"),
    ):
        chosen = [m for m in delivered if m["verified"] == verified]
        if chosen:
            axes.scatter(
                [m["metrics"]["latency_ms"] for m in chosen],
                [100 * m["metrics"]["accuracy"] for m in chosen],
                marker=marker,
                s=160,
                color="crimson",
                label=f"{label}: measured, validation split",
            )
    if "latency_ms" in limits:
        axes.axvline(limits["latency_ms"], color="black", linestyle="--", linewidth=1)
    if "accuracy" in limits:
        axes.axhline(100 * limits["accuracy"], color="black", linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel="latency, ms", ylabel="accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _summary(
    space: str,
    device: str,
    evaluations: Sequence[Evaluation],
    front: Sequence[Evaluation],
    delivered: Sequence[dict[str, Any]],
) -> str:
    verified = sum(m["verified"] for m in delivered)
    return _text(
        f"Space {space!r} on device {device!r}: {len(evaluations)} candidates scored, "
        f"{len(front)} on the front, {len(delivered)} delivered, {verified} of them verified."
    )


def _rollbacks(manifest: dict[str, Any]) -> list[str]:
    """What was taken back of the models that the search chose, and why."""
    lines: list[str] = []
    for key, story in manifest["finalists"].items():
        if not story["refused"]:
            continue
        broken = [c["name"] for c in story["refused"][0]["checks"] if not c["holds"]]
        steps = story["taken_back"]
        lines.append(
            f"{key} did not hold ({', '.join(broken)}). {manifest['key']} is what it became after "
            f"{len(steps)} steps back: {'; '.join(steps) or 'none was possible'}."
        )
    return lines


def _ladder(folder: RunFolder) -> list[str]:
    """Before and after, where that was measured."""
    path = folder.path / "ladder.json"
    if not path.is_file():
        return []
    rows = [
        [
            *(row["name"], row["runtime"], _share(row)),
            f"{row['latency_ms']:.3f} ({row['latency_p10_ms']:.3f} to {row['latency_p90_ms']:.3f})",
            ", ".join(f"{rate:.0f}" for rate in row["throughput"].values()),
            *(f"{row['peak_memory_mb']:.1f}", f"{row['size_mb']:.3f}"),
        ]
        for row in read_json(path)
    ]
    return ["<h2>Before and after, timed in turn</h2>", _table(LADDER, rows)]


def _delivered_row(manifest: dict[str, Any]) -> list[str]:
    found, promised = manifest["metrics"], manifest["promised"]
    return [
        manifest["key"],
        "yes" if manifest["verified"] else "no",
        _share(found),
        _share(manifest["test"]) if "test" in manifest else "not read",
        f"{found['latency_ms']:.3f}",
        f"{promised['latency_ms']:.3f} ({promised['low_ms']:.3f} to {promised['high_ms']:.3f})",
        f"{found['size_mb']:.3f}",
    ]


def _share(metrics: dict[str, float]) -> str:
    low, high = metrics["accuracy_low"], metrics["accuracy_high"]
    return f"{metrics['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def _check_rows(manifest: dict[str, Any]) -> list[list[str]]:
    return [
        [
            manifest["key"],
            check["name"],
            "yes" if check["holds"] else "no",
            _number(check["found"]),
            check["wanted"],
        ]
        for check in manifest["checks"]
    ]


def _stage_row(name: str, facts: dict[str, Any]) -> list[str]:
    rest = {k: v for k, v in facts.items() if k not in ("seconds", "peak_memory_mb")}
    results = ", ".join(f"{key} {_number(value)}" for key, value in rest.items())
    return [name, f"{facts['seconds']:.1f}", str(facts["peak_memory_mb"]), results]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<div><table>" + "".join(lines) + "</table></div>"


def _text(value: str) -> str:
    return html.escape(value)
