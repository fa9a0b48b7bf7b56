"""Deliver: make a trained finalist an artifact that passes its checks, decompressed if needed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...cost_models.standalone.seal import hashes_of
from ...spaces import Candidate
from ...spaces.errors import CostError
from ...spaces.exits import has_exits
from ...spaces.networks import Network
from ..pareto.objectives import MAXIMIZED
from ..scoring.evaluation import Evaluation
from ..scoring.predicted_costs import COUNTED
from ..store.atomic_files import sync_folder
from .claims import Promised, Trial, read_part
from .distill_token import settle
from .exit_parts import Rule, read_rule
from .exit_promises import exits_of, with_shares
from .export import chosen_recipes
from .holding import make_hold, retrained
from .manifest import MANIFEST, Manifest, now, read_manifest, versions, write_manifest
from .preprocessing import Preprocessing
from .terms import Terms

PROMISED = [
    f"{name}{end}" for name in MAXIMIZED for end in ("", "_low", "_high")
]  # by the search, kept after steps back


def deliver(
    pareto: Path,
    evaluation: Evaluation,
    network: Network,
    terms: Terms,
    ladder: str | None = None,
    ways: Mapping[str, Trial] | None = None,
    corrected: bool = False,
) -> Path:
    """Make the artifact of a finalist, less compressed if its answers fail their checks.

    See `holding` for how that goes. The folder is renamed when all its files are written, so that a
    killed process leaves none that looks finished. Measurements on the device are added to its
    manifest later, by `verify.verify_new`.

    A distillation token is first fused or dropped, as the terms say, and both are judged. What is
    left without it is trained a little more: one on digits had 96.7% with it, and 89.0% then.

    Args:
        pareto: folder of all artifacts.
        evaluation: of the finalist by the search, which promises an accuracy; what training
            reached in torch is another promise.
        network: of the finalist, trained; steps back change it in place.
        terms: of the run.
        ladder: name in the ladder of a model that no search found.
        ways: in which it was trained, and how right each was.
        corrected: whether norms and biases are corrected from the start.

    Returns:
        The folder of the artifact.

    Raises:
        CostError: a precision that the device cannot run.
        RunError: the folder cannot be written, or there are too few calibration images.
    """
    unfinished, split = pareto / f".{evaluation.key}", terms.data.split("validation")
    settled = settle(evaluation.candidate, network, terms.distill_token, split)
    candidate, network = settled.candidate, settled.network
    if candidate != evaluation.candidate:  # the class head learns to do without the other token
        network = retrained(candidate, network, terms)
    made = make_hold(unfinished, evaluation, candidate, network, terms, corrected)
    candidate = made.candidate
    rule = read_rule(unfinished) if has_exits(candidate.architecture) else None
    manifest = Manifest(
        key=candidate.key,
        finalists={evaluation.key: made.story},
        made=now(),
        versions=versions(),
        seeds=terms.seeds,
        device=terms.device,
        identity=terms.costs.model.identity,
        recipes=chosen_recipes(candidate, terms.costs.model.recipes),
        calibration_images=terms.calibration_images,
        compensated=made.compensated,
        preprocessing=Preprocessing.of(terms.data),
        promised=_promised(evaluation, candidate, terms, rule),
        anchors=terms.costs.model.pace,
        trained=made.trained,
        limits={o.name: o.limit for o in terms.objectives if o.limit is not None},
        goal=terms.goal,
        ladder=ladder,
        files=hashes_of(unfinished, made.files),
        ways=ways or {},
        distill_token=settled.forms,
        elsewhere=_elsewhere(candidate, terms),
        exits=rule and exits_of(rule),
    )
    return _settle(unfinished, pareto / candidate.key, manifest)


def _promised(
    evaluation: Evaluation, candidate: Candidate, terms: Terms, rule: Rule | None
) -> Promised:
    """Promises of a candidate that a finalist became."""
    predicted = terms.costs(candidate)
    # The finalist's costs were measured, those of a less compressed candidate were not.
    known = evaluation.metrics if candidate == evaluation.candidate else predicted
    values = {n: evaluation.metrics[n] for n in PROMISED if n in evaluation.metrics}
    values |= {name: known[name] for name in predicted}
    promised = read_part(Promised, values | {"predicted_ms": predicted["latency_ms"]})
    if rule is None:
        return promised
    images = len(terms.data.split("validation"))
    return with_shares(promised, candidate, rule, terms.costs.model, images)


def _elsewhere(candidate: Candidate, terms: Terms) -> dict[str, dict[str, float]] | None:
    """Predicted costs of a candidate on other devices; None in a run for one."""
    known: dict[str, dict[str, float]] = {}
    for name, costs in terms.others.items():
        with contextlib.suppress(CostError):  # after steps back it may hold what one cannot run
            known[name] = {n: v for n, v in costs(candidate).items() if n not in COUNTED}
    return known or None


def delivered(pareto: Path, key: str) -> bool:
    """Whether a finalist has an artifact, under its own key or that of what it became."""
    written = (read_manifest(path.parent) for path in pareto.glob(f"[!.]*/{MANIFEST}"))
    return any(key in manifest.finalists for manifest in written)


def _settle(unfinished: Path, folder: Path, manifest: Manifest) -> Path:
    """Rename the folder; if another finalist became the same model, that artifact stays."""
    if folder.exists():
        shutil.rmtree(unfinished)
        first = read_manifest(folder)
        finalists = {**first.finalists, **manifest.finalists}
        write_manifest(folder, replace(first, finalists=finalists))
        return folder
    write_manifest(unfinished, manifest)
    unfinished.rename(folder)
    sync_folder(folder.parent)
    return folder
