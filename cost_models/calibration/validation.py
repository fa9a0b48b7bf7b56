"""Validation: how far a calibration can be trusted."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ..predict.error_figures import accuracy, noise_floor, storage
from ..predict.model import CostModel
from ..standalone.timing import ALARM
from ..tables.latency_table import LatencyTable, quietest

log = logging.getLogger("vitpareto")


def validated(model: CostModel, table: LatencyTable) -> dict[str, Any]:
    """Figures on the networks of a table that were kept out of fitting, and what was measured.

    Args:
        model: fitted.
        table: with rows of kind "fresh", and all others.
    """
    figures: dict[str, Any] = {}
    fitted = {row.key for row in table.of_kind("model")}
    every = [row for row in table.of_kind("fresh") if row.key not in fitted]
    if rows := quietest(every):
        levels = np.array(table.levels(rows))
        figures |= accuracy(levels, model.predict_measured(rows))
        figures |= storage(every, model.predict_measured(every))
        networks = [f"{row.key} {row.recipes}" for row in every]
        figures["noise_floor"] = noise_floor(networks, np.array(table.levels(every)))
    else:
        log.warning(
            "the cost model is not validated: no network was measured that it was not fitted to"
        )
    return figures | {
        "sub_blocks": sum(1 for _ in table.of_kind("unit")),
        "networks_fitted": len(fitted),
        "networks_fresh": len({row.key for row in rows}),
    }


def complaint(unsettled: int, alarms: int, sessions: int) -> str:
    """Warning about a machine that was too restless; empty if it was not.

    Args:
        unsettled: measurements whose warm-up never ended.
        alarms: sessions within which the machine changed its speed.
        sessions: all.
    """
    complaints = [f"measurements that never settled: {unsettled}"] if unsettled else []
    if alarms > sessions / 3:
        complaints.append(
            f"the speed changed by more than {ALARM:.0%} in {alarms} of {sessions} sessions"
        )
    return f"the machine was restless: {', '.join(complaints)}; all is kept" if complaints else ""
