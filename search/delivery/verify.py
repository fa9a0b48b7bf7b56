"""Verify: artifacts are run on their device, and every promise is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...cost_models import Device
from ...cost_models.measure.footprint import Footprint, footprint
from ...cost_models.runtimes.scratch import scratch
from ...cost_models.tables.latency_table import Row
from ..data.dataset import Data, Split
from ..pareto.objectives import Objective
from ..store.run_folder import RunFolder
from ..training.accuracy import accuracy
from .answering import answers_here
from .artifact import Artifact, load_network, read_candidate
from .artifact_timing import part_keys, time_artifacts
from .build import Build
from .changed_files import changed_file
from .checks import (
    FILES,
    LOCAL,
    check_energy,
    check_kernels,
    check_latency,
    check_limits,
    check_memory,
    check_size,
    floor_on,
)
from .claims import Accuracy, Check, Exits, Metrics, plain
from .confusion import class_results
from .exit_parts import names_of
from .export import build_for
from .formats import format_of
from .history import remember
from .kernel_inventory import Inventory
from .leaving import mean_cost, reach_of, shares_of
from .manifest import Manifest, manifests, write_manifest
from .mistakes import Mistake, keep_mistakes, mistakes


@dataclass(frozen=True)
class Report:
    """Outcome of checking an artifact against its manifest again.

    Attributes:
        key: of its candidate.
        checks: those that are possible on this machine.
        metrics: measured now; None where its files have changed, or its device is elsewhere.
        inside_interval: whether its latency is in the promised interval, likewise.
        status: what is known of a model whose device is another machine.
    """

    key: str
    checks: Sequence[Check]
    metrics: Metrics | None = None
    inside_interval: bool | None = None
    status: str | None = None

    @property
    def holds(self) -> bool:
        """Whether every check held that is possible here."""
        return all(check.holds for check in self.checks)

    @property
    def verified(self) -> bool:
        """Whether every check held, and the model was measured on its device."""
        return self.holds and (self.status is None or self.status.startswith("verified"))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        metrics = {"metrics": self.metrics.row()} if self.metrics else {}
        return plain(self) | metrics | {"verified": self.verified}


def verify_new(folder: RunFolder, device: Device, data: Data) -> None:
    """Measure the artifacts of a run, and complete their manifests with all checks.

    All are timed in turn, so all are measured again if one has not been measured. Of those whose
    device is another machine only the answers are checked; a kit measures them there.

    Raises:
        RunError: nothing was delivered, an artifact is damaged, or the folder cannot be written.
        CostError: the runtime refuses a graph.
    """
    delivered = manifests(folder.pareto)
    waiting = [manifest for manifest in delivered if not manifest.metrics]
    elsewhere = [manifest for manifest in waiting if not is_here(manifest)]
    if elsewhere:
        predict_all(folder, [m for m in elsewhere if not m.is_predicted], device, data)
    if len(waiting) == len(elsewhere):
        return
    artifacts = [Artifact.load(folder.pareto / m.key, device) for m in delivered]
    rows, speeds = time_artifacts(artifacts, delivered, device)
    split = data.split("validation")
    examined, wrong = list[Manifest](), dict[str, list[Mistake]]()
    for artifact, manifest in zip(artifacts, delivered, strict=True):
        key, build = manifest.key, rebuild(artifact.folder, manifest, device, data)
        done, wrong[key] = examine(artifact, manifest, build, split, rows, speeds[key], device)
        examined.append(done)
    keep_mistakes(folder, "validation", wrong)
    remember(folder, delivered, examined)
    for done in examined:  # last, as they say that this is done
        write_manifest(folder.pareto / done.key, done)


def is_here(manifest: Manifest) -> bool:
    """Whether this machine is the device that a model is for, as it was calibrated."""
    return manifest.device.identity() == manifest.identity


def predict_all(
    folder: RunFolder, delivered: Sequence[Manifest], device: Device, data: Data
) -> None:
    """Check the answers of models whose device is another machine, in their manifests."""
    done = [predicted(folder.pareto / m.key, m, device, data) for m in delivered]
    keep_mistakes(folder, "validation", {manifest.key: surest for manifest, surest in done})
    for manifest, _ in done:
        write_manifest(folder.pareto / manifest.key, manifest)


def predicted(
    artifact: Path, manifest: Manifest, device: Device, data: Data
) -> tuple[Manifest, list[Mistake]]:
    """Check answers and size of a model, and nothing of the device that it is for.

    Returns:
        Its manifest with the promises of the search, and its mistakes.
    """
    split, goal = data.split("validation"), manifest.goal
    size_mb = stored_mb(artifact, manifest, device)
    build = rebuild(artifact, manifest, device, data)
    low = least_of(manifest, split)
    (logits, *_), checks = answers_here(
        artifact, device, manifest.identity, build, split, low, goal
    )
    names = manifest.preprocessing.class_names
    told = replace(
        manifest,
        answers=Accuracy(**accuracy(logits, split.labels)),
        metrics=None,
        classes=class_results(logits, split.labels, names),
    )
    figures = replace(told.figures, size_mb=size_mb)
    checks += [c for c in check_promises(manifest, figures, None) if c.name not in LOCAL]
    return replace(told, checks=checks), mistakes(logits, split.labels)


def stored_mb(folder: Path, manifest: Manifest, device: Device) -> float:
    """Size of the files in a folder that run, in megabytes of 10^6 bytes."""
    names = [format_of(device).file] if not manifest.exits else names_of(read_candidate(folder))
    return sum((folder / name).stat().st_size for name in names) / 1e6


def rebuild(folder: Path, manifest: Manifest, device: Device, data: Data) -> Build:
    """Make the build of an artifact in a folder again, for the logits that torch expects.

    Raises:
        RunError: a file is missing, or is not what its name says.
    """
    return build_for(
        device,
        read_candidate(folder),
        load_network(folder),
        manifest.recipes,
        data,
        manifest.calibration_images,
        manifest.compensated,
    )


def examine(
    artifact: Artifact,
    manifest: Manifest,
    build: Build,
    split: Split,
    rows: Mapping[str, Row],
    speed: float,
    device: Device,
) -> tuple[Manifest, list[Mistake]]:
    """Run every check on one artifact; its manifest with the measurements, and its mistakes.

    Args:
        artifact: the model.
        manifest: its promises and limits.
        build: from which it was made.
        split: images of the validation split.
        rows: measured latencies by key, those of parts among them.
        speed: of the machine then, where 1 is that of the calibration.
        device: on which it is measured.
    """
    low = least_of(manifest, split)
    answers, checks = artifact.check_answers(build, split, low, manifest.goal)
    logits, row, exits = answers.logits, rows[artifact.candidate.key], manifest.exits
    used, inventory = footprint_of(artifact.contents, device), artifact.inventory
    if exits and answers.part is not None:
        timed = [rows[key] for key in part_keys(artifact)]
        exits = measured_exits(exits, answers.part, timed, row)
        row = mean_row(row, timed, reach_of(exits.shares or ()))
        all_ms = sum(each.median_ms for each in timed)
        used = used._replace(energy_mj=used.energy_mj * row.median_ms / all_ms)
        missing = sum(part.inventory.fallbacks for part in artifact.parts)
        inventory = replace(inventory, fallbacks=missing)
    metrics = metrics_of(logits, split, row, speed, used, artifact.size_mb)
    examined = replace(
        manifest,
        metrics=metrics,
        inventory=inventory,
        exits=exits,
        answers=None,
        kit=None,
        checks=[*checks, *check_promises(manifest, metrics, inventory)],
        classes=class_results(logits, split.labels, manifest.preprocessing.class_names),
    )
    return examined, mistakes(logits, split.labels)


def least_of(manifest: Manifest, split: Split) -> float:
    """Least accuracy that keeps what was promised; exits may cost what they were allowed to."""
    goal = manifest.goal
    low = floor_on(split.labels, goal, manifest.promised.interval(goal)[0], manifest.trained)
    return low - manifest.exits.drop if manifest.exits else low


def measured_exits(exits: Exits, part: Tensor, timed: Sequence[Row], whole: Row) -> Exits:
    """What is known of exits, with what was measured.

    Args:
        exits: what was known before.
        part: that answers each validation image (N,).
        timed: latency of each part.
        whole: latency of the network without exits.
    """
    part_ms = [row.median_ms for row in timed]
    _, low, high = mean_cost(part, part_ms)
    return replace(
        exits,
        shares=shares_of(part, len(timed)),
        part_ms=part_ms,
        whole_ms=whole.median_ms,
        low_ms=low,
        high_ms=high,
    )


def mean_row(row: Row, timed: Sequence[Row], reach: Sequence[float]) -> Row:
    """The row of a model with exits: means of its parts' latencies.

    Args:
        row: of the whole network.
        timed: of each part.
        reach: share of the images that run each.
    """

    def mean(name: str) -> float:
        pairs = zip(reach, timed, strict=True)
        return sum(share * getattr(each, name) for share, each in pairs)

    return replace(row, median_ms=mean("median_ms"), p10_ms=mean("p10_ms"), p90_ms=mean("p90_ms"))


def metrics_of(
    logits: Tensor, split: Split, row: Row, speed: float, used: Footprint, size_mb: float
) -> Metrics:
    """Measurements of a model: its logits on a split (N, K), its timing, memory and size."""
    return Metrics(
        **accuracy(logits, split.labels),
        latency_ms=row.median_ms,
        latency_p10_ms=row.p10_ms,
        latency_p90_ms=row.p90_ms,
        drift=row.drift,
        speed=speed,
        peak_memory_mb=used.growth_mb,
        size_mb=size_mb,
        energy_mj=used.energy_mj or None,
    )


def check_promises(
    manifest: Manifest, metrics: Metrics, inventory: Inventory | None
) -> list[Check]:
    """Check latency, limits, size, memory and energy of a measured model.

    Args:
        manifest: its promises and limits.
        metrics: measured.
        inventory: of its operators; None where the device does not tell its kernels.
    """
    promised = manifest.promised
    limits = [Objective(name, limit) for name, limit in manifest.limits.items()]
    checks = [check_latency(metrics.latency_ms, promised.high_ms, metrics.speed)]
    if inventory is not None:
        checks.append(check_kernels(inventory))
    checks += check_limits(metrics, limits, promised.counts)
    if metrics.energy_mj is not None and promised.energy_high_mj is not None:
        checks.append(check_energy(metrics.energy_mj, promised.energy_high_mj))
    if format_of(manifest.device).predicted:
        checks.append(check_size(metrics.size_mb, promised.size_mb))
        checks.append(check_memory(metrics.peak_memory_mb, promised.peak_memory_mb))
    return checks


def footprint_of(contents: Sequence[bytes], device: Device) -> Footprint:
    """Measure memory and energy of a model's files in a fresh process."""
    with scratch() as folder:
        paths = [folder / f"{n or ''}{format_of(device).file}" for n in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return footprint(device, *map(str, paths))


def verify_again(folder: RunFolder, device: Device, data: Data) -> list[Report]:
    """Check delivered artifacts against their manifests again.

    An artifact whose files have changed is not loaded. On the device that a manifest names, the new
    measurements take the place of those in the manifest if this process may write into the
    folder, so that everybody reads the newest. Elsewhere the answers are compared, and no more.

    Raises:
        RunError: there is no artifact, one lacks a file or was edited, or the folder cannot be
            written.
        MissingRuntimeError: the device's runtime is not installed here, and is needed.
    """
    split = data.split("validation")
    delivered = manifests(folder.pareto)
    changed = {m.key: changed_file(folder.pareto / m.key, m.files) for m in delivered}
    here = [m for m in delivered if not changed[m.key] and is_here(m)]
    artifacts = {m.key: Artifact.load(folder.pareto / m.key, device) for m in here}
    rows, speeds = time_artifacts([*artifacts.values()], here, device) if artifacts else ({}, {})
    reports: list[Report] = []
    newest, wrong = list[Manifest](), dict[str, list[Mistake]]()
    for manifest in delivered:
        key, path = manifest.key, folder.pareto / manifest.key
        files = Check(FILES, not changed[key], changed[key] or "unchanged", "unchanged")
        if changed[key]:
            reports.append(Report(key, [files]))
            continue
        if artifact := artifacts.get(key):
            build = rebuild(path, manifest, device, data)
            done, surest = examine(artifact, manifest, build, split, rows, speeds[key], device)
            report = Report(key, [files, *done.checks], done.metrics, done.inside_interval)
        else:
            done, surest = predicted(path, manifest, device, data)
            report = Report(key, [files, *done.checks], status=done.status)
        reports.append(report)
        # What a kit measured elsewhere is not given up for what can be seen here.
        if folder.is_open and (artifact or not manifest.metrics):
            newest.append(done)
            wrong[key] = surest
    keep_mistakes(folder, "validation", wrong)
    if folder.is_open:
        remember(folder, delivered, newest)
    for examined in newest:
        write_manifest(folder.pareto / examined.key, examined)
    return reports
