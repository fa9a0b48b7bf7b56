"""Samplers that propose candidates: those of the product and of plugins.

An entry takes a `loop.task.Task` and makes a `loop.task.Proposer` or a sampler of Optuna. The
registry is outside of `loop`, because a run file names a sampler before the loop is loaded.
"""

from collections.abc import Callable
from typing import Any

from ..spaces.registry import Registry

SAMPLERS: Registry[Callable[[Any], object]] = Registry(
    "sampler",
    {
        "surrogate": ".loop.baselines:surrogate",
        "nsga2": ".loop.from_optuna:nsga2",
        "nsga3": ".loop.from_optuna:nsga3",
        "tpe": ".loop.from_optuna:tpe",
        "gp": ".loop.from_optuna:gp",
        "random": ".loop.from_optuna:random",
        "uniform": ".loop.baselines:UniformScaling",
        "patch-size": ".loop.baselines:patch_size",
        "prune": ".loop.baselines:prune",
        "int8": ".loop.baselines:int8",
        "sequential": ".loop.baselines:Sequential",
    },
    __package__,
)
