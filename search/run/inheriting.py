"""Inheriting: whether a budget leaves time for weights that finalists can start from.

Shared weights that were trained a little are not worth their time. On 3,781 photos of clothes one
pass of the supernet took 184 s of 20 minutes, and what inherited from it had to learn as fast
as new networks all the same: 46% with a learning rate of 0.0003, made for inherited weights,
against 69% with 0.002.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..config import RunConfig

READY = 10  # passes of a supernet from which its weights are a start
RECIPE = ("finish.inherit", "finish.lr")  # no lengths, but what follows from that of a supernet
WITHOUT: Mapping[str, Any] = {"supernet.epochs": 0, "finish.inherit": False}


def is_spare(config: RunConfig, keys: Collection[str]) -> bool:
    """Whether a budget may do without the supernet: a forecast scores, and none need inherit."""
    inherit = config.finish.inherit and "finish.inherit" not in keys
    return (
        config.has_supernet
        and "supernet.epochs" in keys
        and config.forecast.candidates > 0
        and not inherit
    )


def without_supernet(config: RunConfig, keys: Collection[str]) -> dict[str, Any]:
    """What a run without a supernet changes, by key: its finalists learn as new networks do."""
    return {**WITHOUT, **rate_of_new(config, keys)}


def rate_of_new(config: RunConfig, keys: Collection[str]) -> dict[str, Any]:
    """The learning rate of new networks, by key; nothing where one is given."""
    return {"finish.lr": config.proxy.lr} if "finish.lr" in keys else {}


def begin_anew(config: RunConfig) -> bool:
    """Whether finalists are new, or inherit so little that they must learn as fast as new ones."""
    taught = config.finish.inherit and config.supernet.epochs >= READY
    return not (config.start.model or taught)
