"""Lines and figures that `vitpareto costs` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...cost_models import CostModel
from ...spaces import Candidate
from .text import known, recipe_lines

Facts = Mapping[str, Any]
PERCENT = (
    *("mape", "median_error", "within_5", "within_10", "coverage_of_90"),
    *(
        "size_error",
        "memory_error",
        "energy_error",
        "noise_floor",
        "sub_block_error",
        "left_out_error",
    ),
)
_ENERGY = ("energy_mj", "energy_low_mj", "energy_high_mj")


def describe_model(model: CostModel) -> dict[str, Any]:
    """Device, validation, recipes, how much was measured, and energy of a cost model."""
    data = model.to_dict()
    names = ("device", "fingerprint", "validation", "recipes", "interval", "energy")
    return {name: data[name] for name in names} | {"groups": dict(sorted(model.groups.items()))}


def block_rows(model: CostModel, candidate: Candidate) -> dict[str, Any]:
    """Sub-blocks of a candidate in order: time, whether like was measured, energy if known."""
    rows: list[dict[str, Any]] = []
    blocks = model.sub_blocks(candidate)
    measured = model.parts_of([(block, recipe) for block, recipe, _ in blocks])["inside"] > 0
    for (block, recipe, ms), inside in zip(blocks, measured.tolist(), strict=True):
        energy = model.block_mj(block, recipe)
        ends = dict(zip(_ENERGY, energy or (), strict=False))
        about = {"kind": block.kind, "variant": block.variant, "recipe": recipe}
        rows.append(about | {"latency_ms": ms, "macs": block.macs, "inside": inside} | ends)
    return {"key": candidate.key, "blocks": rows, "rest_ms": model.rest_ms(candidate)}


def model_text(facts: Facts) -> list[str]:
    """Lines of `describe_model`, and of `block_rows` if they are in it."""
    lines = [f"device {facts['fingerprint']}"]
    lines += [f"  {name:18} {value}" for name, value in facts["device"].items()]
    checked = "validation" if "mape" in facts["validation"] else "not validated on fresh networks"
    lines += ["", checked, *(f"  {line}" for line in figures(facts["validation"]))]
    lines += ["", "measured sub-blocks"]
    lines += [f"  {count:5}  {_in_words(name)}" for name, count in facts["groups"].items()]
    lines += ["", _energy_line(facts["energy"])]
    lines += _block_lines(facts) if "blocks" in facts else []
    return lines + recipe_lines(name.rpartition("@")[2] for name in facts["groups"])


def _in_words(group: str) -> str:
    """Group of units as the tables of sub-blocks say it.

    >>> _in_words("mixer/softmax@static8")
    'mixer softmax  static8'
    """
    block, _, recipe = group.partition("@")
    return f"{block.replace('/', ' ')}  {recipe}"


def _energy_line(energy: Facts | None) -> str:
    if energy is None:
        return "energy: not known, no counter told"
    return (
        f"energy: {energy['watts']:.3g} W above idle and {energy['per_loaded_mj']:.3g} mJ for each "
        f"MB of weights, of {energy['networks']} networks"
    )


def _block_lines(facts: Facts) -> list[str]:
    lines = ["", f"largest network {facts['key']}", f"{'ms':>9}  {'mJ':>8}  sub-block"]
    for row in facts["blocks"]:
        energy = known(row.get("energy_mj"), "8.3g")
        lines.append(
            f"{row['latency_ms']:9.4f}  {energy}  {row['kind']} {row['variant']}  {row['recipe']}"
            + "  outside of what was measured" * (not row["inside"])
        )
    return [*lines, f"{facts['rest_ms']:9.4f}  {'-':>8}  beside them"]


def import_text(facts: Facts) -> list[str]:
    """Lines about an imported table of another project."""
    lines = [f"{facts['source']}: {facts['rows']} rows, {len(facts['devices'])} devices"]
    if not facts["findings"]:
        lines.append("nothing suspicious")
    lines += [f"{f['check'].upper()}  {f['column']}: {f['detail']}" for f in facts["findings"]]
    lines += ["", "mean error in percent, on rows that were not learned from"]
    for device, about in facts["devices"].items():
        parts = [f"{group} {error:.2f}" for group, error in about["errors"].items()]
        if about["from_others"] is not None:
            parts.append(f"from the other devices {about['from_others']:.2f}")
        if about["noise"] is not None:
            parts.append(f"its own noise {about['noise']:.2f}")
        if about["largest_step"]:
            parts.append(f"a step of {about['largest_step']:.0%} divided out")
        lines.append(f"  {device}: {', '.join(parts) or 'nothing can be learned'}")
    return lines


def figures(facts: Facts) -> Sequence[str]:
    """Lines with one figure each."""
    return [
        f"{name:20} {f'{value:.4g}' if isinstance(value, float) else value}"
        + "%" * (name in PERCENT and value is not None)
        for name, value in facts.items()
    ]
