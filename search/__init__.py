"""Finding, finishing and delivering.

Names are imported when they are first used: neither torch nor optuna is loaded before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..spaces.packages import needed

if TYPE_CHECKING:
    from .config import RunConfig, load_config
    from .loop.optuna_sampler import Sampler
    from .loop.study import Study, Until
    from .loop.task import Task
    from .pareto.objectives import Objective
    from .run.assets import Run
    from .run.opening import open_run
    from .run.results import Delivered, Results, load_run
    from .scoring.evaluation import Evaluation
    from .scoring.evaluation_log import EvaluationLog
    from .scoring.score_queue import Scores

_HOMES = {
    "config": ("RunConfig", "load_config"),
    "loop.optuna_sampler": ("Sampler",),
    "loop.study": ("Study", "Until"),
    "loop.task": ("Task",),
    "pareto.objectives": ("Objective",),
    "run.assets": ("Run",),
    "run.opening": ("open_run",),
    "run.results": ("Delivered", "Results", "load_run"),
    "scoring.evaluation": ("Evaluation",),
    "scoring.evaluation_log": ("EvaluationLog",),
    "scoring.score_queue": ("Scores",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Delivered",
    "Evaluation",
    "EvaluationLog",
    "Objective",
    "Results",
    "Run",
    "RunConfig",
    "Sampler",
    "Scores",
    "Study",
    "Task",
    "Until",
    "load_config",
    "load_run",
    "open_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needed(f"{__name__}.{name}"):
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
