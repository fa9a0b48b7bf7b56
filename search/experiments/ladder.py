"""Ladder: baselines of a run beside its models, made from the same weights and trained alike.

The baselines are the original in PyTorch, exported, in float16 and in int8, with linear attention,
and compressed by int8 alone or by pruning alone until it is as fast as the run's most accurate
model, if that is possible. The searched models follow, each also in float32, float16 and int8
throughout, with the same weights, where the device runs that. Baselines that were trained take part
in the front: one that is within the limits and that no delivered model beats is delivered, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from safetensors.torch import save

from ...cost_models import CostModel
from ...spaces import Architecture, Candidate, Policy, SearchSpace
from ...spaces.errors import CostError, RunError, SpaceError
from ...spaces.mixers import find
from ...spaces.schema import in_use
from ...spaces.supernet import Supernet
from ..compress.rewrites import REWRITES
from ..delivery.artifact import CANDIDATE, WEIGHTS, load_network, read_candidate
from ..delivery.decompression import policies, with_policy
from ..delivery.deliver import PROMISED, deliver
from ..delivery.manifest import SEARCHED, Manifest, manifests
from ..delivery.pick import pick_model
from ..delivery.shortlist import corrected, measure_shortlist
from ..delivery.tested import test_once
from ..delivery.verify import verify_new
from ..executors import open_executor
from ..loop.uniform_scaling import field, scalings
from ..pareto.objectives import pareto_front
from ..run.assets import Run
from ..run.terms import terms_of
from ..scoring.evaluation import Evaluation
from ..store.atomic_files import write_atomic, write_json
from ..training.finalists import train_finalists
from ..training.finetune import Finalist, start_network
from .side_by_side import Entry, LadderRow, entry_of, measure_entries, speed_beside

STEPS = 17  # sizes that are tried by pruning alone
PRUNED = ("prune_ratio", "mixer_prune_ratio", "mlp_prune_ratio", "num_heads", "mlp_ratio")
INT8 = Policy(8, 8)
ORIGINAL, FLOAT32 = "original", "float32"
PRECISIONS = {FLOAT32: Policy(), "float16": Policy(16), "int8": INT8}
MEASURED = ("latency_ms", "peak_memory_mb", "size_mb")
EQUALLY_FAST, CLOSE = ("int8 only", "pruning only"), 0.05

log = logging.getLogger("vitpareto")


def build_ladder(run: Run, rewrites: bool = False) -> Sequence[LadderRow]:
    """Train the missing baselines, measure all models, and write `ladder.json`.

    Baselines that belong to the front are delivered then.

    Args:
        run: with delivered models.
        rewrites: whether the original and the most accurate delivered model are also measured with
            parts in other operations, each of `compress.rewrites.REWRITES` alone.

    Returns:
        A row for each model.

    Raises:
        RunError: nothing was delivered, a file cannot be written, or the device of the run is
            another machine.
        CostError: the runtime refuses a graph.
    """
    delivered = manifests(run.folder.pareto)
    if not run.is_here:
        raise RunError(
            f"{run.folder.path}: is for {run.config.device_label}, another machine, and models are "
            "timed beside each other on their own device only"
        )
    found = [manifest for manifest in delivered if not manifest.ladder]
    best = pick_model(found, "best")
    target = read_candidate(run.folder.pareto / best.key)
    model, supernet = run.ensure_cost_model(), Supernet(run.space)  # of which only shapes count
    made = trained(
        run,
        {
            named(name, candidate, model, target): candidate
            for name, candidate in baselines(run.space, model, target).items()
            if has_weights(supernet, candidate)
        },
    )
    entries = list[Entry]()
    if original := made.get(ORIGINAL):
        entries.append(replace(original, eager=True))
        for name, policy in PRECISIONS.items():
            candidate = in_bits(original.candidate, policy)
            if runs(candidate, model):
                entries.append(Entry(name, candidate, original.network))
    entries += [entry for name, entry in made.items() if name != ORIGINAL]
    searched = [entry_of(run.folder.pareto, manifest) for manifest in found]
    entries += [*searched, *in_precisions(searched, model)]
    if rewrites:
        entries += rewritten_entries(e for e in entries if e.name in (FLOAT32, SEARCHED + best.key))
    read = measure_entries(
        entries, model, run.device, run.data, run.config.export.calibration_images
    )
    speed = speed_beside(read, found)
    rows = [row.at_calibrated_speed(speed) for row in read]
    write_json(run.folder.ladder, [row.to_dict() for row in rows])
    deliver_best(run, made, rows)
    return rows


def trained(run: Run, wanted: Mapping[str, Candidate]) -> dict[str, Entry]:
    """Load baselines with their own weights, trained now like finalists if they were not yet.

    One whose training fails is left out, which the log says.
    """
    folders = {name: run.folder.ladder_models / c.key for name, c in wanted.items()}
    waiting = dict[str, Finalist]()
    for i, (name, candidate) in enumerate(wanted.items(), 1):
        if not (folders[name] / WEIGHTS).exists() and candidate.key not in waiting:
            network = start_network(run.inherited, candidate, run.calibration, run.tuning)
            number, kept = f"{i} of {len(wanted)}: {name}", folders[name] / "training.safetensors"
            waiting[candidate.key] = Finalist(candidate, network, kept, number)
    if waiting:
        config = run.config.executor
        with open_executor(config) as executor:
            done = train_finalists(
                [*waiting.values()], run.tuning, executor, config.workers, label="ladder"
            )
        for finalist in done:
            folder = finalist.kept.parent
            write_atomic(folder / CANDIDATE, finalist.candidate.to_json())
            write_atomic(folder / WEIGHTS, save(finalist.network.state_dict()))
            finalist.kept.unlink(missing_ok=True)
    return {
        name: Entry(name, candidate, load_network(folders[name]))
        for name, candidate in wanted.items()
        if (folders[name] / WEIGHTS).exists()
    }


def in_precisions(entries: Iterable[Entry], model: CostModel) -> list[Entry]:
    """Models with the same bits everywhere, one for each precision that a model has not already.

    Where the device does not run one, the log says so.
    """
    made: list[Entry] = []
    for entry in entries:
        for name, policy in PRECISIONS.items():
            candidate = in_bits(entry.candidate, policy)
            if candidate == entry.candidate:
                continue
            if not runs(candidate, model):
                log.info("ladder: %s without %s: the device does not run it", entry.name, name)
                continue
            both = f"{entry.name}, {name}"
            made.append(
                replace(entry, name=both, candidate=candidate, rewrite=name, beside=entry.name)
            )
    return made


def in_bits(candidate: Candidate, policy: Policy) -> Candidate:
    """The candidate with the bits of a policy in every part that has weights.

    Zeros and ranks stay; scales, which belong to the bits that were chosen, do not.
    """
    for path, own in policies(candidate).items():
        if has_bits(candidate.architecture, path):
            others = own.only(lambda transform: transform.on != "rounding").others
            bits = Policy(policy.weight_bits, policy.act_bits, others)
            candidate = with_policy(candidate, path, bits)
    return candidate


def has_bits(architecture: Architecture, path: str) -> bool:
    """Whether bits change a part, by its path of `policies`: a pooling has no weights."""
    place = path.split(".")
    if len(place) < 4:  # stem, head or downsampling
        return True
    _, i, part, j = place
    block = architecture.stages[int(i)].blocks[int(j)]
    return in_use(f"{part}_weight_bits", block.mixer, block.mlp_hidden > 0, 0)


def rewritten_entries(entries: Iterable[Entry]) -> list[Entry]:
    """Models with parts in other operations, one for each rewrite that changes a model.

    Where one cannot be applied, the log says why.
    """
    made: list[Entry] = []
    for entry in entries:
        for name, rewrite in REWRITES.items():
            if not rewrite.changes(entry.network):
                continue
            try:
                network = rewrite.apply(entry.network)
            except SpaceError as error:
                log.info("ladder: %s without %s", entry.name, error)
                continue
            both = f"{entry.name}, {name}"
            made.append(replace(entry, name=both, network=network, rewrite=name, beside=entry.name))
    return made


def deliver_best(run: Run, made: Mapping[str, Entry], rows: Sequence[LadderRow]) -> None:
    """Deliver the trained baselines that keep the limits and that no delivered model beats.

    Their accuracy is promised as it was measured, as no search ever forecast it.

    Args:
        run: that has delivered models.
        made: baselines, by name.
        rows: measurements of all, at the speed of the calibration.
    """
    pareto = run.folder.pareto
    chosen = front_of(run, made, rows, manifests(pareto))
    if chosen:
        plain = list(chosen.values())
        measured = measure_shortlist(
            plain, run.ensure_cost_model(), run.device, run.folder.shortlist
        )
        promised = corrected(plain, measured)
        for name, evaluation in zip(chosen, promised, strict=True):
            log.info("ladder: %s is on the front, and is delivered, too", name)
            deliver(pareto, evaluation, made[name].network, terms_of(run), ladder=name)
    verify_new(run.folder, run.device, run.data)  # also what a kill left unmeasured
    test_once(run.folder, run.device, run.data)


def front_of(
    run: Run, made: Mapping[str, Entry], rows: Sequence[LadderRow], delivered: Sequence[Manifest]
) -> dict[str, Evaluation]:
    """Baselines that belong to the front of all models as measured, by name; with predicted costs.

    Args:
        run: whose limits and objectives count.
        made: baselines, by name.
        rows: their measurements.
        delivered: manifests.
    """
    pareto, costs = run.folder.pareto, run.costs
    own = [row for row in rows if row.runtime == run.device.runtime and not row.rewrite]
    by_key = {row.key: row.to_dict() for row in own}
    known = {key for m in delivered for key in (m.key, *m.finalists)}
    new = {
        entry.candidate.key: name
        for name, entry in made.items()
        if entry.candidate.key in by_key and entry.candidate.key not in known
    }
    predicted = {key: costs(made[name].candidate) for key, name in new.items()}
    scored = [
        Evaluation(made[name].candidate, "complete", {**predicted[key], **_measured(by_key[key])})
        for key, name in new.items()
    ]
    for m in delivered:
        if m.metrics:
            candidate = read_candidate(pareto / m.key)
            metrics = costs(candidate) | m.metrics.at_calibrated_speed()
            scored.append(Evaluation(candidate, "complete", metrics))
    front = pareto_front(scored, run.config.search.resolve())
    return {
        new[e.key]: replace(e, metrics={**e.metrics, **predicted[e.key]})
        for e in front
        if e.key in new
    }


def _measured(row: Mapping[str, Any]) -> dict[str, float]:
    """What a row says of the metrics that a run may trade or limit, with their intervals."""
    return {name: row[name] for name in (*PROMISED, *MEASURED) if name in row}


def baselines(space: SearchSpace, model: CostModel, target: Candidate) -> dict[str, Candidate]:
    """Baselines that are trained, by name, the original first.

    Args:
        space: its largest network is the original.
        model: predicts latencies.
        target: searched model whose latency the one-technique baselines must reach, or come
            close to where they cannot.
    """
    original = Candidate.uncompressed(space.largest().architecture)
    by_name = {ORIGINAL: original}
    if linear := with_linear_attention(original, space):
        by_name["linear attention"] = linear
    limit = float(model.predict([target]).latency_ms[0])
    by_name["int8 only"] = only_int8(original, model, limit)
    pruned = [space.candidate(s) for s in scalings(space, STEPS, lambda c: field(c) in PRUNED)]
    plain = [Candidate.uncompressed(c.architecture) for c in pruned]
    latency = model.predict(plain).latency_ms
    fast = [c for c, ms in zip(plain, latency, strict=True) if ms <= limit]
    by_name["pruning only"] = fast[-1] if fast else plain[int(np.argmin(latency))]
    return by_name


def named(name: str, candidate: Candidate, model: CostModel, target: Candidate) -> str:
    """Name of a baseline, with a note where it is slower than the target."""
    if name not in EQUALLY_FAST:
        return name
    ms, limit = model.predict([candidate, target]).latency_ms
    return name if ms <= limit * (1 + CLOSE) else f"{name}, fastest"


def with_linear_attention(candidate: Candidate, space: SearchSpace) -> Candidate | None:
    """The candidate with every attention linear; None where the space has no such mixer."""
    known = [b for c in space.covering() for b in c.architecture.blocks() if b.mixer == "linear"]
    if not known:
        return None
    a = candidate.architecture
    stages = tuple(
        replace(
            stage,
            blocks=tuple(
                replace(b, mixer="linear", kernel_size=known[0].kernel_size)
                if "num_heads" in find(b.mixer).fields
                else b
                for b in stage.blocks
            ),
        )
        for stage in a.stages
    )
    return Candidate(replace(a, stages=stages), candidate.compression)


def only_int8(candidate: Candidate, model: CostModel, limit: float) -> Candidate:
    """Quantize as few sub-blocks to int8 as reach a latency, the greatest gain first."""
    latency = float(model.predict([candidate]).latency_ms[0])
    while latency > limit:
        options: list[Candidate] = []
        for path, policy in policies(candidate).items():
            changed = with_policy(candidate, path, INT8)
            if policy != INT8 and runs(changed, model):
                options.append(changed)
        if not options:
            break
        levels = model.predict(options).latency_ms
        if levels.min() >= latency:
            break
        candidate, latency = options[int(levels.argmin())], float(levels.min())
    return candidate


def has_weights(supernet: Supernet, candidate: Candidate) -> bool:
    """Whether a supernet can start a candidate."""
    try:
        supernet.inherit(candidate)
    except SpaceError:
        return False
    return True


def runs(candidate: Candidate, model: CostModel) -> bool:
    """Whether a device runs a candidate."""
    try:
        model.predict([candidate])
    except CostError:
        return False
    return True
