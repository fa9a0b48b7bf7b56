"""Tested: what is delivered meets the test split, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...cost_models import Device
from ..data.dataset import Data, Split
from ..store.run_folder import RunFolder
from ..training.accuracy import accuracy
from .answering import stand_in
from .artifact import Answers, Artifact
from .claims import Accuracy
from .confusion import class_results
from .leaving import mean_cost, shares_of
from .manifest import Manifest, manifests, write_manifest
from .mistakes import Mistake, keep_mistakes, mistakes
from .verify import rebuild


def test_once(folder: RunFolder, device: Device, data: Data) -> list[Manifest]:
    """Measure the delivered artifacts on the test split that were not yet.

    Returns:
        The manifests, the fastest model first.
    """
    test_all_once([(folder, device)], data)
    return manifests(folder.pareto)


def test_all_once(places: Sequence[tuple[RunFolder, Device]], data: Data) -> None:
    """Measure the artifacts of a run on the test split that were not yet, on all its devices.

    It is read once for all of them. A run that was killed between reading and writing, or to which
    `ladder` adds a model, reads again; the seal records that.

    Args:
        places: the folder of the run as each device has it, and the device.
        data: images of the run.
    """
    waiting = [
        (folder, device, new)
        for folder, device in places
        if (new := [m for m in manifests(folder.pareto) if not m.test])
    ]
    if waiting:
        split = data.split("test", force=waiting[0][0].test_seal.exists())
        for folder, device, new in waiting:
            _test(folder, device, data, new, split)


def _test(
    folder: RunFolder, device: Device, data: Data, new: Sequence[Manifest], split: Split
) -> None:
    """Write into manifests how accurate their models are on the test split."""
    tested, wrong = list[Manifest](), dict[str, list[Mistake]]()
    for manifest in new:
        path, names = folder.pareto / manifest.key, data.class_names
        logits, part, _ = test_answers(path, manifest, device, data, split)
        test = Accuracy(**accuracy(logits, split.labels))
        rows, exits = class_results(logits, split.labels, names), manifest.exits
        if exits and part is not None:
            part_ms = exits.part_ms
            exits = replace(
                exits,
                test_shares=shares_of(part, len(exits.expected)),
                test_ms=mean_cost(part, part_ms)[0] if part_ms else None,
            )
        tested.append(replace(manifest, test=test, test_classes=rows, exits=exits))
        wrong[manifest.key] = mistakes(logits, split.labels)
    keep_mistakes(folder, "test", wrong)
    for done in tested:
        write_manifest(folder.pareto / done.key, done)


def test_answers(
    artifact: Path, manifest: Manifest, device: Device, data: Data, split: Split
) -> Answers:
    """Answers of a model on the test split, by its device or what stands for it here."""
    if here := stand_in(device, manifest.identity):
        return Artifact.load(artifact, here).answers(split)
    return Answers(rebuild(artifact, manifest, device, data).logits(split))
