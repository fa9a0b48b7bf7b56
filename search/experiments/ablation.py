"""Ablation: what repair, the library and the forecast each add to weights cut from a start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ...cost_models.units.precision_recipes import Book
from ...spaces import Candidate
from ...spaces.networks import Network
from ..library.parts import Library
from ..library.repair import assemble
from ..library.slices import sliced
from ..run.assets import Run
from ..scoring.assembled import AssembledScorer


def cut_scorers(run: Run) -> dict[str, AssembledScorer]:
    """Scorers of candidates by how they are cut; none where a run has no start.

    "raw" weights are slices of the most important units, "repaired" ones are moved in closed form
    to where the start is, and "assembled" ones have other mixers from the library, too.
    """
    library = run.ensure_library()
    if library is None:
        return {}
    open_scorer = partial(AssembledScorer, images=run.data.split("search"))
    recipes = run.ensure_cost_model().recipes
    without = replace(library, options={})
    return {
        "raw": open_scorer(library, recipes=recipes, make=_raw),
        "repaired": open_scorer(without, recipes=recipes, make=assemble),
        "assembled": open_scorer(library, recipes=recipes),
    }


def _raw(library: Library, candidate: Candidate, recipes: Book | Sequence[str]) -> Network:
    return sliced(library, candidate.architecture)
