"""Rounded: recipes of files that hold weights in float32, whatever they were rounded to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ....cost_models import workload
from ....cost_models.units.precision_recipes import group_of, recipe_for
from ....spaces import Candidate
from . import Recipes

ROUNDED = ("float", "fp16", "stored8", "stored4", "stored8_tensor", "stored4_tensor")


def weights_alone(candidate: Candidate, recipes: Recipes) -> Mapping[str, str]:
    """Recipes that round weights and leave activations in float, by group."""
    return {
        group_of(block): recipe_for(
            replace(block, policy=replace(block.policy, act_bits=32)), ROUNDED
        )
        for block in workload(candidate).sub_blocks
    }
