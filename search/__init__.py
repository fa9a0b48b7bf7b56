"""Finding, finishing and delivering.

Names are imported when they are first used: neither torch nor optuna is loaded before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import RunConfig, load_config
    from .evaluate import Evaluation
    from .objectives import Objective
    from .proposer import Task
    from .results import Delivered, Results, load_run
    from .run import Run, open_run
    from .sampler import Sampler
    from .scores import Scores
    from .store import EvaluationLog
    from .study import Study, Until

_HOMES = {
    "config": ("RunConfig", "load_config"),
    "evaluate": ("Evaluation",),
    "objectives": ("Objective",),
    "proposer": ("Task",),
    "results": ("Delivered", "Results", "load_run"),
    "run": ("Run", "open_run"),
    "sampler": ("Sampler",),
    "scores": ("Scores",),
    "store": ("EvaluationLog",),
    "study": ("Study", "Until"),
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
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
