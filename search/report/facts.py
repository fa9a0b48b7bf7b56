"""Facts: everything that a report shows, read from the files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...cost_models import CostModel
from ...spaces import Candidate, SearchSpace
from ...spaces.errors import RunError
from ..config import RunConfig, load_config
from ..data.catalog import Catalog
from ..delivery.artifact import read_candidate
from ..delivery.history import History, read_history
from ..delivery.manifest import SEARCHED, Manifest, manifests
from ..delivery.pick import pick_model
from ..letters import letters_of
from ..library.overview import Overview, read_overview
from ..pareto.objectives import Objective, pareto_front
from ..run.refreshing import Refresh, refresh_of
from ..run.stage import Stage
from ..scoring.evaluation import Evaluation
from ..scoring.evaluation_log import read_evaluations
from ..store.atomic_files import read_json
from ..store.run_folder import RunFolder


@dataclass(frozen=True)
class Facts:
    """Results of a run.

    Attributes:
        folder: the run.
        config: resolved.
        space: that was searched.
        evaluations: scored candidates in the order of scoring.
        refresh: what finished models say about their forecasts.
        failed: number of candidates that could not be scored.
        delivered: manifests, the fastest first.
        candidates: key -> candidate of each of them.
        cost_model: of the device.
        images: what is recorded of the data; nothing in runs before 0.3.
        catalog: every image with label and split, likewise.
        history: key -> what a model measured each time; empty where that was not kept.
        mistakes: split -> key -> the surest mistakes of a model; empty in runs of 0.2.
        stages: name -> seconds, peak memory and results.
        environment: versions, machine and command.
        ladder: models measured side by side; empty where they were not.
        references: the start, or the largest network of the space, in float32: in the run's own
            runtime first, then in eager PyTorch, which is all that runs of 0.2 measured; a start
            also in int8. May be empty.
        budget: what one chose, and what more time would buy; empty without one.
        targets: delivered models in every runtime; empty where that was not tried.
        profiles: where time and memory of delivered models go; empty where none was looked into.
        proxy: figures of a proxy check; empty where there was none.
        library: what can stand in for parts of the start; None in runs without one.
    """

    folder: RunFolder
    config: RunConfig
    space: SearchSpace
    evaluations: Sequence[Evaluation]
    refresh: Refresh
    failed: int
    delivered: Sequence[Manifest]
    candidates: Mapping[str, Candidate]
    cost_model: CostModel
    images: Mapping[str, Any]
    catalog: Catalog | None
    history: Mapping[str, History]
    mistakes: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
    stages: Mapping[str, Mapping[str, Any]]
    environment: Mapping[str, Any]
    ladder: Sequence[Mapping[str, Any]]
    references: Sequence[Mapping[str, Any]]
    budget: Mapping[str, Any]
    targets: Sequence[Mapping[str, Any]]
    profiles: Sequence[Mapping[str, Any]]
    proxy: Mapping[str, Any]
    library: Overview | None

    @property
    def objectives(self) -> list[Objective]:
        """Metrics that were traded or limited."""
        return self.config.search.resolve()

    @property
    def goal(self) -> str:
        """Name of the accuracy that the run maximizes, which is shown throughout."""
        return self.config.search.goal

    @cached_property
    def shown(self) -> list[Evaluation]:
        """The scored candidates as they are forecast now that models are finished."""
        return self.refresh(self.evaluations)

    @cached_property
    def front(self) -> list[Evaluation]:
        """Those of them within all limits that no other one dominates."""
        return pareto_front(self.shown, self.objectives)

    @cached_property
    def line(self) -> list[Evaluation]:
        """Their front in the plane of latency and accuracy alone, the fastest first."""
        plane = Objective("latency_ms"), Objective(self.goal)
        return sorted(pareto_front(self.front, plane), key=lambda e: e.metrics["latency_ms"])

    @cached_property
    def measured(self) -> list[Manifest]:
        """The delivered models that were run on the device."""
        return [m for m in self.delivered if m.metrics]

    @cached_property
    def shown_models(self) -> list[Manifest]:
        """The delivered models that were run on the device, or that are predicted for another."""
        return [m for m in self.delivered if m.metrics or m.is_predicted]

    @property
    def best(self) -> Manifest:
        """The shown model of the highest accuracy on validation."""
        return max(self.shown_models, key=lambda m: m.figures.interval(self.goal)[1])

    @property
    def taken(self) -> Manifest:
        """The shown model that `vitpareto export` takes if it is not told which."""
        return pick_model(self.shown_models)

    def letter(self, key: str) -> str:
        """Letter of a delivered model in pictures: A is the fastest."""
        return letters_of(self.delivered)[[m.key for m in self.delivered].index(key)]

    def delivered_as(self, row: Mapping[str, Any]) -> str:
        """Letter of the delivered model that a row of the ladder became; empty if none did."""
        if row.get("rewrite"):
            return ""
        runtimes = {m.key: m.device.runtime for m in self.delivered if m.ladder}
        return self.letter(row["key"]) if runtimes.get(row["key"]) == row["runtime"] else ""

    def shown_as(self, name: str) -> str:
        """Name of a row of the ladder for people: a searched model has its letter there."""
        letters = {SEARCHED + m.key: f"searched: {self.letter(m.key)}" for m in self.delivered}
        return letters.get(name, name)

    @property
    def baselines(self) -> list[Mapping[str, Any]]:
        """Rows of the ladder that are not delivered models, or without it trained references."""
        rows = [
            row
            for row in self.ladder
            if not row["name"].startswith(SEARCHED)
            and not self.delivered_as(row)
            and not row.get("rewrite")
        ]
        return rows or [row for row in self.references if self.goal in row]

    @property
    def origin(self) -> str:
        """The model of the references, in words."""
        return "start" if self.config.start.model else "largest network of the space"

    @property
    def yardsticks(self) -> dict[str, float]:
        """Accuracies on the validation split to compare with: of the start, and of the teacher."""
        start = bool(self.config.start.model)
        rows = self.references if start else ()
        own = next((row[self.goal] for row in rows if self.goal in row), None)
        # A start is its own teacher, unless another one is named.
        teacher = "start" if start and not self.config.teacher.model else "teacher"
        known = {"start": own, teacher: self.teacher_accuracy}
        return {name: share for name, share in known.items() if share is not None}

    @property
    def teacher_accuracy(self) -> float | None:
        """Accuracy of the teacher on the validation split."""
        return self.stages.get(Stage.TEACHER, {}).get(self.goal)


def gather(folder: RunFolder) -> Facts:
    """Read a run folder, of a run for several devices as one of them has it.

    Raises:
        RunError: nothing was delivered yet, or a file is missing or damaged.
    """
    config = load_config(folder.config).on(folder.device)
    delivered, model = manifests(folder.pareto), CostModel.load(folder.cost_model)
    environment = read_json(folder.environment)
    is_here = model.identity.items() >= environment["machine"].items()
    scored, _ = read_evaluations(folder.evaluations)
    complete = [e.on(folder.device) for e in scored if e.status == "complete"]
    return Facts(
        folder=folder,
        config=config,
        space=SearchSpace.from_yaml(folder.space),
        evaluations=complete,
        refresh=refresh_of(folder, complete),
        failed=len(scored) - len(complete),
        delivered=delivered,
        candidates={m.key: read_candidate(folder.pareto / m.key) for m in delivered},
        cost_model=model,
        images=_optional(folder.catalog, {}),
        catalog=Catalog.load(folder.catalog, folder.images) if folder.images.exists() else None,
        history=read_history(folder),
        mistakes=_optional(folder.mistakes, {}),
        stages=read_json(folder.stages),
        environment=environment,
        # Timed on the machine of the run, which says nothing of models for another one.
        ladder=_optional(folder.ladder, []) if is_here else [],
        references=_references(folder) if is_here else [],
        budget=_optional(folder.budget, {}),
        targets=_optional(folder.targets, []),
        profiles=_optional(folder.profiles, []),
        proxy=_optional(folder.proxy, {}),
        library=_library(folder),
    )


def _references(folder: RunFolder) -> list[Mapping[str, Any]]:
    rows = _optional(folder.reference, [])
    return rows if isinstance(rows, list) else [rows]  # 0.2 measured one


def _library(folder: RunFolder) -> Overview | None:
    try:
        return read_overview(folder)
    except RunError:  # no start, or a library of another release
        return None


def _optional(path: Path, default: Any) -> Any:
    return read_json(path) if path.is_file() else default
