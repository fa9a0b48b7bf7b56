"""Ladder: baselines of a run beside its models, made from the same weights and trained alike.

The baselines are the original in PyTorch, exported, in float16 and in int8, with linear attention,
and compressed by int8 alone or by pruning alone until it is as fast as the run's most accurate
model, if that is possible. The searched models follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from safetensors.torch import save

from ...cost_models import CostModel
from ...spaces import Candidate, Policy, SearchSpace
from ...spaces.errors import CostError, SpaceError
from ...spaces.mixers import find
from ...spaces.supernet import Supernet
from ..delivery.artifact import CANDIDATE, WEIGHTS, load_network, read_candidate
from ..delivery.decompression import policies, with_policy
from ..delivery.manifest import manifests
from ..delivery.pick import pick_model
from ..loop.uniform_scaling import field, scalings
from ..run.assets import Run
from ..store.atomic_files import write_atomic, write_json
from ..training.finetune import Finalist, start_network, train_finalists
from .side_by_side import Entry, LadderRow, measure_entries

STEPS = 17  # sizes that are tried by pruning alone
PRUNED = ("prune_ratio", "mixer_prune_ratio", "mlp_prune_ratio", "num_heads", "mlp_ratio")
FP16, INT8 = Policy(16), Policy(8, 8)
EQUALLY_FAST, CLOSE = ("int8 only", "pruning only"), 0.05


def build_ladder(run: Run) -> Sequence[LadderRow]:
    """Train the missing baselines, measure all models, and write `ladder.json`.

    Args:
        run: with delivered models.

    Returns:
        A row for each model.

    Raises:
        RunError: nothing was delivered, or a file cannot be written.
        CostError: the runtime refuses a graph.
    """
    delivered = manifests(run.folder.pareto)
    target = read_candidate(run.folder.pareto / pick_model(delivered, "best").key)
    model, supernet = run.ensure_cost_model(), run.ensure_supernet()
    made = {
        name: trained(run, named(name, candidate, model, target), candidate)
        for name, candidate in baselines(run.space, model, target).items()
        if has_weights(supernet, candidate)
    }
    original = made["original"]
    entries = [replace(original, name="original", eager=True)]
    for name, policy in (("float32", Policy()), ("float16", FP16), ("int8", INT8)):
        candidate = everywhere(original.candidate, policy)
        if runs(candidate, model):
            entries.append(Entry(name, candidate, original.network))
    entries += [entry for name, entry in made.items() if name != "original"]
    for manifest in delivered:
        folder, how = run.folder.pareto / manifest.key, manifest.compensated
        candidate, network = read_candidate(folder), load_network(folder)
        entries.append(Entry(f"searched {folder.name}", candidate, network, compensate=how))
    rows = measure_entries(
        entries, model, run.device, run.data, run.config.export.calibration_images
    )
    write_json(run.folder.ladder, [row.to_dict() for row in rows])
    return rows


def trained(run: Run, name: str, candidate: Candidate) -> Entry:
    """Load a baseline with its own weights, trained now like a finalist if it was not yet."""
    folder = run.folder.ladder_models / candidate.key
    if not (folder / WEIGHTS).exists():
        network = start_network(run.inherited, candidate, run.data, run.tuning)
        finalist = Finalist(candidate, network, folder / "training.safetensors")
        train_finalists([finalist], run.tuning)
        write_atomic(folder / CANDIDATE, candidate.to_json())
        write_atomic(folder / WEIGHTS, save(network.state_dict()))
        finalist.kept.unlink(missing_ok=True)
    return Entry(name, candidate, load_network(folder))


def baselines(space: SearchSpace, model: CostModel, target: Candidate) -> dict[str, Candidate]:
    """Baselines that are trained, by name, the original first.

    Args:
        space: its largest network is the original.
        model: predicts latencies.
        target: searched model whose latency the one-technique baselines must reach, or come
            close to where they cannot.
    """
    original = Candidate.uncompressed(space.largest().architecture)
    by_name = {"original": original}
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


def everywhere(candidate: Candidate, policy: Policy) -> Candidate:
    """The candidate with one policy for all its sub-blocks."""
    for path in policies(candidate):
        candidate = with_policy(candidate, path, policy)
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
