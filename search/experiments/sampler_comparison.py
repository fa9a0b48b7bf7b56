"""Sampler comparison: samplers and baselines with equally many scored candidates, over seeds."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import ConfigError, RunError, UnknownNameError
from ..executors import open_executor
from ..loop.optuna_sampler import Sampler
from ..loop.study import Scoring, Study, Until, window
from ..loop.task import Task
from ..pareto.dominance import nondominated
from ..pareto.hypervolume import Box
from ..pareto.objectives import Objective
from ..run.assets import Run
from ..samplers import SAMPLERS
from ..store.atomic_files import write_atomic, write_json

Array = NDArray[np.float64]

PROPOSALS = 20  # for each scored candidate; a sampler that needs more is exhausted
# Student's t for 95% intervals, by number of seeds (two-sided; Fisher and Yates 1963, table III).
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of one sampler.

    Attributes:
        name: of the sampler.
        fronts: for each seed the losses (N, M) of its front.
        scored: for each seed the number of scored candidates.
        hypervolumes: for each seed the dominated share of the box around all fronts together.
    """

    name: str
    fronts: tuple[Array, ...]
    scored: tuple[int, ...]
    hypervolumes: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean hypervolume."""
        return fmean(self.hypervolumes)

    @property
    def half_width(self) -> float:
        """Half of the 95% interval of the mean; NaN for a single seed."""
        n = len(self.hypervolumes)
        return STUDENT.get(n, 2.2) * stdev(self.hypervolumes) / n**0.5 if n > 1 else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "hypervolume": self.mean,
            "half_width": None if math.isnan(self.half_width) else self.half_width,
            "hypervolumes": list(self.hypervolumes),
            "scored": list(self.scored),
            "fronts": [front.tolist() for front in self.fronts],
        }


def compare(
    names: Sequence[str],
    task: Task,
    scoring: Callable[[], Scoring],
    seeds: int,
    window: int = 1,
) -> list[Outcome]:
    """Let each sampler search until equally many candidates are scored, once for each seed.

    Args:
        names: of samplers and baselines; one that is there twice is meant once.
        task: its trials are the number of candidates to score, its seed the first one.
        scoring: opens the scoring; a candidate that another sampler had scored is not scored
            again, but counts.
        seeds: number of searches of each.
        window: trials under way at once.

    Returns:
        Outcomes, the largest mean hypervolume first.

    Raises:
        RunError: no candidate keeps the limits.
    """
    fronts: dict[str, list[Array]] = {}
    scored: dict[str, list[int]] = {}
    for name in dict.fromkeys(names):
        for seed in range(task.seed, task.seed + seeds):
            own = Task(task.space, task.objectives, task.price, seed, task.trials)
            study = Study(own, Sampler(name, own), scoring(), window)
            study.run(Until(PROPOSALS * task.trials, scored=task.trials))
            fronts.setdefault(name, []).append(study.archive.losses)
            scored.setdefault(name, []).append(study.scored)
    together = np.vstack([front for own in fronts.values() for front in own])
    if not len(together):
        raise RunError(
            "--compare: no search scored a candidate that keeps the limits; raise search.limits or "
            "search.trials"
        )
    box = Box.of_points(together[nondominated(together)])
    outcomes = [
        Outcome(
            name,
            tuple(fronts[name]),
            tuple(scored[name]),
            tuple(box.volume(front) for front in fronts[name]),
        )
        for name in fronts
    ]
    return sorted(outcomes, key=lambda outcome: -outcome.mean)


def compare_run(run: Run, names: Sequence[str], seeds: int) -> list[Outcome]:
    """Compare samplers on what a run has trained and measured.

    Scores are kept in the run folder, so that an interrupted comparison can continue. Table and
    picture are written there too.

    Raises:
        UnknownNameError: no such sampler.
        ConfigError: the run trades fewer than two objectives.
        RunError: a file cannot be written, or no candidate keeps the limits.
    """
    for name in names:
        if name not in SAMPLERS:
            raise UnknownNameError("sampler", name, SAMPLERS)
    if sum(o.traded for o in run.config.search.resolve()) < 2:
        raise ConfigError("--compare: fronts are compared, so name two or more search.objectives")
    search, folder = run.config.search, run.folder
    task = Task(run.space, search.resolve(), run.price, search.seed, search.trials)
    with open_executor(run.config.executor) as executor:
        outcomes = compare(
            names,
            task,
            lambda: run.scoring(executor, folder.comparison_scores),
            seeds,
            window(run.config),
        )
    write_json(folder.comparison, [outcome.to_dict() for outcome in outcomes])
    write_atomic(folder.comparison_picture, draw_comparison(outcomes, task.objectives))
    return outcomes


def comparison_text(outcomes: Sequence[Outcome]) -> str:
    """Table of the outcomes as text."""
    lines = [f"{'sampler':12}  {'hypervolume':>11}  {'95% interval':>16}  {'scored':>6}"]
    for o in outcomes:
        known = not math.isnan(o.half_width)
        interval = f"{o.mean - o.half_width:.4f} - {o.mean + o.half_width:.4f}" if known else "?"
        lines.append(f"{o.name:12}  {o.mean:11.4f}  {interval:>16}  {fmean(o.scored):6.0f}")
    return "\n".join(lines)


def draw_comparison(outcomes: Sequence[Outcome], objectives: Sequence[Objective]) -> bytes:
    """Draw the fronts of all seeds in the first two objectives, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first, second = [o for o in objectives if o.traded][:2]
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for number, outcome in enumerate(outcomes):
        label = f"{outcome.name}: {outcome.mean:.3f} ± {outcome.half_width:.3f}"
        for seed, front in enumerate(outcome.fronts):
            two = front[:, :2]
            two = two[nondominated(two)]
            two = two[np.argsort(two[:, 1])]
            axes.step(
                two[:, 1] * (-1 if second.maximize else 1),
                two[:, 0] * (-1 if first.maximize else 1),
                where="post",
                color=f"C{number}",
                alpha=0.6,
                linewidth=1,
                label="_" if seed else label,
            )
    axes.set(xscale="log", xlabel=second.name, ylabel=first.name)
    axes.set_title("fronts after as many scored candidates; hypervolume with its 95% interval")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()
