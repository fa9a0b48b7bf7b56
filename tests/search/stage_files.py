"""The file that each stage of a run leaves in its folder."""

from collections.abc import Iterable

from vitpareto.search.run.stage import Stage
from vitpareto.search.store.run_folder import RunPaths

FILES = {
    Stage.DATA: "catalog",
    Stage.CALIBRATION: "cost_model",
    Stage.START: "start",
    Stage.TEACHER: "teacher",
    Stage.LIBRARY: "library",
    Stage.SUPERNET: "supernet",
    Stage.FORECAST: "short_trainings",
    Stage.SEARCH: "evaluations",
    Stage.SHORTLIST: "shortlist",
    Stage.FINISHING: "pareto",
    Stage.VERIFICATION: "test_seal",
    Stage.REFERENCE: "reference",
}


def without_file(paths: RunPaths, stages: Iterable[Stage]) -> list[Stage]:
    """Stages whose file is not there."""
    return [stage for stage in stages if not getattr(paths, FILES[stage]).exists()]
