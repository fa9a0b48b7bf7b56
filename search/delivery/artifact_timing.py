"""Artifact timing: delivered models timed in turn, and the speed of the machine meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...cost_models import Device
from ...cost_models.measure.bench import Bench, GraphMaker, TimedGraph
from ...cost_models.tables.latency_table import Row
from ...spaces import Candidate
from ...spaces.errors import CostError
from .artifact import Artifact
from .manifest import Manifest
from .shortlist import time_graphs

TWIN = "twin of "  # prefix of an artifact's key, for its graph with random weights


def time_artifacts(
    artifacts: Sequence[Artifact], delivered: Sequence[Manifest], device: Device
) -> tuple[dict[str, Row], dict[str, float]]:
    """Time artifacts; rows and speeds of the machine by key, where 1 is the calibration's speed.

    A measured promise was measured on the candidate's graph with random weights (see
    `shortlist`). That graph is timed again beside the artifact and gives the speed: anchors are
    other kernels, which a busy host slows by more or less. For a predicted promise the anchors do.

    Args:
        artifacts: of one run.
        delivered: their manifests.
        device: that runs them.

    Raises:
        CostError: the runtime refuses one.
    """
    bench, graphs = Bench(device), list[TimedGraph]()
    for a, manifest in zip(artifacts, delivered, strict=True):
        graphs += [graph_of(a), *part_graphs(a)]
        if manifest.promised.was_measured and not a.parts:
            graphs.append(twin_of(bench, a.candidate, manifest))
    rows = time_graphs(bench, graphs)
    for artifact in artifacts:
        if not {artifact.candidate.key, *part_keys(artifact)} <= rows.keys():
            raise CostError(
                f"{artifact.folder / artifact.format.file}: {device.runtime} cannot time it"
            )
    return rows, {manifest.key: speed_of(manifest, rows) for manifest in delivered}


def twin_of(maker: GraphMaker, candidate: Candidate, manifest: Manifest) -> TimedGraph:
    """The graph of a candidate with random weights, stored as its artifact is."""
    return replace(maker.network(candidate, manifest.recipes), key=TWIN + candidate.key)


def speed_of(manifest: Manifest, rows: Mapping[str, Row]) -> float:
    """Speed of the machine while a model was timed, by its twin or else by the anchors.

    A model with exits has no twin: what was promised of it hangs on how images leave.
    """
    if twin := rows.get(TWIN + manifest.key):
        return manifest.promised.latency_ms / twin.median_ms
    return rows[manifest.key].speed(manifest.anchors)


def graph_of(artifact: Artifact) -> TimedGraph:
    """Make a graph that can be timed of an artifact."""
    key, content = artifact.candidate.key, artifact.content
    shape, nodes = artifact.input_shape, artifact.inventory.nodes
    return TimedGraph("artifact", key, content, shape, 1, len(content), nodes)


def part_keys(artifact: Artifact) -> list[str]:
    """Names of the parts of an artifact among what is timed; none where it has no exits."""
    return [f"{artifact.candidate.key} part {number}" for number in range(len(artifact.parts))]


def part_graphs(artifact: Artifact) -> list[TimedGraph]:
    """Make graphs that can be timed of the parts of an artifact with exits."""
    return [
        TimedGraph(
            *("artifact", key, part.content, part.shape, 1, len(part.content)),
            part.inventory.nodes,
        )
        for key, part in zip(part_keys(artifact), artifact.parts, strict=True)
    ]
