"""Blocks: which of the start's matter, and what can stand in for their parts."""

from __future__ import annotations

from ..library.overview import BlockView, depth_rows, stand_ins
from .facts import Facts
from .markup import table, tag, text


def blocks(facts: Facts) -> list[str]:
    """A table for each stage, a column for each block; nothing where there is no library."""
    if facts.library is None:
        return []
    words = (
        "Shares: how much of what a part of the start adds to the stream its most important heads "
        "or hidden units, or another mixer, say, too, once repaired; before any training of the "
        "candidate. Without a block: how far the answers are from the start's, as "
        "Kullback-Leibler divergence in nats (0 where they agree, 0.7 where a sure answer gets "
        "half of its probability), and in which order shallower candidates give blocks up."
    )
    stages = facts.library.stages()
    return [
        tag("h2", "Which blocks of the start matter"),
        tag("p", words, class_="note"),
        *(
            _stage(stage, f"stage {i}, block" if len(stages) > 1 else "block")
            for i, stage in enumerate(stages)
        ),
    ]


def _stage(views: list[BlockView], name: str) -> str:
    header = [name, *(str(view.block) for view in views)]
    rows = [[label, *cells] for label, cells in depth_rows(views, "{:.2g}".format)]
    rows += [
        [text(label), *(_share(view.explained.get(label)) for view in views)]
        for label in stand_ins(views)
    ]
    return table(header, rows)


def _share(share: float | None) -> str:
    if share is None:
        return ""
    tone = min(1.0, max(0.0, share))
    return tag("span", f"{share:.0%}", class_="share", style=f"--share:{tone:.2f}")
