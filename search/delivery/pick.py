"""Pick: one of the delivered models, by what a person wants of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...spaces.errors import ConfigError, RunError, UnknownNameError, did_you_mean
from ..letters import letters_of
from ..pareto.objectives import METRICS, Objective
from .manifest import Manifest

PICKS = ("good", "knee", "fastest", "best")
NEAR = 0.01  # of accuracy that most people give for a faster model
SIGNS = {"<=": False, ">=": True}  # whether more is better


def pick_model(
    delivered: Sequence[Manifest], pick: str = "good", within: Sequence[str] = ()
) -> Manifest:
    """Pick one of several delivered models.

    Args:
        delivered: manifests, the fastest first.
        pick: "good", the fastest whose accuracy is within a point of the best; "knee", the one
            farthest above the line from the fastest to the most accurate; "fastest"; "best", the
            most accurate; a letter as in the report; or a key, of which the beginning is enough.
        within: limits that it must keep, such as "accuracy>=0.97".

    Raises:
        UnknownNameError: no such model.
        ConfigError: a limit that is none.
        RunError: no model keeps the limits, or the run was not verified to its end.
    """
    named = _named(delivered, pick)
    kept = [m for m in ([named] if named else delivered) if _keeps(m, within)]
    if not kept:
        raise RunError(f"none of {len(delivered)} delivered models keeps {', '.join(within)}")
    return named or _ways(kept)[pick]()


def _named(delivered: Sequence[Manifest], pick: str) -> Manifest | None:
    """The model with a letter or a key; None for a way to pick."""
    if pick in PICKS:
        return None
    letters = dict(zip(letters_of(delivered), delivered, strict=True))
    if pick in letters:
        return letters[pick]
    found = [m for m in delivered if pick and m.key.startswith(pick)]
    if len(found) == 1:
        return found[0]
    if found:
        keys = ", ".join(m.key for m in found)
        raise ConfigError(f"--pick: {pick!r} is the beginning of {len(found)} keys: {keys}")
    known = [*PICKS, *letters, *(m.key for m in delivered)]
    raise UnknownNameError("model", pick, known)


def _ways(delivered: Sequence[Manifest]) -> dict[str, Callable[[], Manifest]]:
    """Ways to pick a model, by name."""
    ms = {m.key: m.figures.calibrated_ms for m in delivered}
    share = {m.key: m.figures.interval(m.goal)[1] for m in delivered}
    fastest = min(delivered, key=lambda m: ms[m.key])
    best = max(delivered, key=lambda m: (share[m.key], -ms[m.key]))

    def good() -> Manifest:
        near = [m for m in delivered if share[m.key] >= share[best.key] - NEAR]
        return min(near, key=lambda m: ms[m.key])

    def knee() -> Manifest:
        across = (ms[best.key] - ms[fastest.key]) or 1.0
        up = (share[best.key] - share[fastest.key]) or 1.0

        def above(m: Manifest) -> float:
            return (share[m.key] - share[fastest.key]) / up - (ms[m.key] - ms[fastest.key]) / across

        # Both ends are on the line; where nothing is above it, the accurate one is taken.
        return max(delivered, key=lambda m: (round(above(m), 9), share[m.key]))

    return {"good": good, "knee": knee, "fastest": lambda: fastest, "best": lambda: best}


def _keeps(manifest: Manifest, within: Sequence[str]) -> bool:
    values = manifest.promised.counts | manifest.figures.at_calibrated_speed()
    return all(
        limit.name in values and limit.violation(values[limit.name]) <= 0
        for limit in map(_limit, within)
    )


def _limit(text: str) -> Objective:
    """A limit such as "latency_ms<=0.1".

    Raises:
        ConfigError: it is none.
    """
    for sign, more in SIGNS.items():
        name, found, value = (part.strip() for part in text.partition(sign))
        if not found:
            continue
        if name not in METRICS:
            raise ConfigError(f"--within: no such metric {name!r}. {did_you_mean(name, METRICS)}")
        try:
            number = float(value)
        except ValueError:
            break
        limit = Objective(name, number)
        if limit.maximize != more:
            better = ">=" if limit.maximize else "<="
            raise ConfigError(f"--within: {name} is limited by {better}, got {text!r}")
        if limit.maximize and number > 1:
            raise ConfigError(f"--within: {name} is a share: {number / 100:g}, got {text!r}")
        return limit
    raise ConfigError(f"--within: need a metric, <= or >=, and a number, got {text!r}")
