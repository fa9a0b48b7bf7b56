"""Mistakes: the wrong answers of a delivered model of which it is surest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.catalog import Catalog
from ..store.atomic_files import read_json, write_json
from ..store.run_folder import RunPaths

KEPT = 36  # of a model and a split, at most


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong answer.

    Attributes:
        image: number of the image in its split.
        label: number of its class.
        answer: number of the class that the model says.
        probability: of that class, by the softmax of the logits.
        label_probability: of the right one.
    """

    image: int
    label: int
    answer: int
    probability: float
    label_probability: float


def mistakes(logits: Tensor, labels: Tensor) -> list[Mistake]:
    """Wrong answers of logits (N, K) on labels (N,), the surest first; at most `KEPT`."""
    shares = logits.double().softmax(1)
    probability, answers = shares.max(1)
    wrong = (answers != labels).nonzero()[:, 0]
    surest = wrong[torch.argsort(probability[wrong], descending=True, stable=True)][:KEPT]
    return [
        Mistake(
            i,
            int(labels[i]),
            int(answers[i]),
            round(probability[i].item(), 4),
            round(shares[i, labels[i]].item(), 4),
        )
        for i in surest.tolist()
    ]


def keep_mistakes(paths: RunPaths, split: str, found: Mapping[str, Sequence[Mistake]]) -> None:
    """Write mistakes of models on a split into `mistakes.json`, in place of older ones of these.

    A run that did not record its images keeps none.

    Args:
        paths: of the run folder.
        split: whose images they are.
        found: key of the model -> its mistakes.

    Raises:
        RunError: a file is damaged, or the folder cannot be written.
    """
    if not found or not paths.catalog.exists():
        return
    catalog = Catalog.load(paths.catalog, paths.images)
    rows, names = catalog.rows_of(split).tolist(), catalog.class_names

    def named(mistake: Mistake) -> dict[str, Any]:
        row = rows[mistake.image]
        words = {"label": names[mistake.label], "answer": names[mistake.answer]}
        about = {"path": catalog.rows[row].path, "row": row}
        return about | {k: v for k, v in asdict(mistake).items() if k != "image"} | words

    kept: dict[str, dict[str, Any]] = read_json(paths.mistakes) if paths.mistakes.exists() else {}
    new = {key: [named(mistake) for mistake in of_model] for key, of_model in found.items()}
    write_json(paths.mistakes, kept | {split: kept.get(split, {}) | new})
