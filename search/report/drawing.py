"""Drawing: a delivered architecture, block by block, as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...cost_models.units.workload import SubBlock, workload
from ...spaces import Candidate
from ...spaces.mixers.window import side_of
from .markup import tag
from .svg import label, picture
from .words import bits

CELL, GAP, TALL = 84, 7, 52  # pixels: width of a column, between columns, height of a box
BAR = 26  # of the tokens that are left


@dataclass(frozen=True, slots=True)
class Box:
    """A sub-block to be drawn: what it is, its numbers, and its precision."""

    kind: str
    title: str
    detail: str
    bits: str


@dataclass(frozen=True, slots=True)
class Column:
    """What is drawn above each other: a block, or the stem, a downsampling or the head.

    Attributes:
        boxes: one or two.
        heading: above them, where a stage begins.
        tokens: that leave it; 0 where that says nothing.
    """

    boxes: Sequence[Box]
    heading: str = ""
    tokens: int = 0


def draw(candidate: Candidate, width: int) -> str:
    """The architecture as columns from the stem to the head, in as many lines as it needs."""
    found = columns(candidate)
    across = max(1, (width + GAP) // (CELL + GAP))
    line = 20 + 2 * TALL + 8 + BAR + 22
    lines = -(-len(found) // across)
    most = max(column.tokens for column in found)
    parts: list[str] = []
    for i, column in enumerate(found):
        x, y = i % across * (CELL + GAP), i // across * line + 16
        if column.heading:
            parts.append(label(x, y - 2, column.heading, "heading"))
        if i % across:
            middle = y + 8 + TALL
            parts.append(tag("line", x1=x - GAP, x2=x, y1=middle, y2=middle, class_="flow"))
        tall = TALL if len(column.boxes) > 1 else 2 * TALL + 4
        parts += [_box(box, x, y + 8 + j * (TALL + 4), tall) for j, box in enumerate(column.boxes)]
        if column.tokens:
            parts.append(_tokens(column.tokens, most, x, y + 8 + 2 * TALL + 12))
    return picture(width, lines * line, "Architecture", *parts)


def columns(candidate: Candidate) -> list[Column]:
    """Stem, blocks and head of a candidate in the order in which they run."""
    a, found = candidate.architecture, list[Column]()
    stage = 0
    for unit in workload(candidate).sub_blocks:
        tokens = unit.place.kept
        if unit.kind == "stem":
            stem = Box("plain", "stem", f"{unit.variant} {a.patch_size}", bits(unit.policy))
            found.append(Column([stem], f"{a.input_size} px", unit.place.tokens))
        elif unit.kind == "downsample":
            stage += 1
            found.append(Column([Box("plain", "halve", unit.variant, bits(unit.policy))]))
        elif unit.kind == "head":
            found.append(
                Column([Box("plain", "head", f"{unit.outputs} classes", bits(unit.policy))])
            )
        elif unit.kind == "mixer":
            first = found[-1].boxes[0].kind == "plain"
            name = "" if len(a.stages) == 1 else f"stage {stage + 1}: "
            heading = f"{name}width {unit.place.width}" if first else ""
            found.append(Column([_mixer(unit)], heading, tokens))
        else:
            mlp = Box("mlp", "MLP", f"{unit.place.block.mlp_hidden} hidden", bits(unit.policy))
            found[-1] = Column([*found[-1].boxes, mlp], found[-1].heading, tokens)
    return found


def _mixer(unit: SubBlock) -> Box:
    b = unit.place.block
    left = {n: v for n, v in b.numbers if n not in ("head_dim", "kv_pool", "shift")}
    side = side_of(unit.place) if "window_size" in left else 0
    told = {
        "num_heads": "{0} head" if left.get("num_heads") == 1 else "{0} heads",
        "window_size": f"{side}x{side}",
        "kv_heads": "{0}kv",
        "kernel_size": "{0}x{0}",
        "token_hidden": "{0} hidden",
    }
    told |= {name: f"{name} {{0}}" for name in left if name not in told}
    words = [text.format(left[name]) for name, text in told.items() if name in left][:2]
    return Box(b.mixer, b.mixer.replace("_", " "), ", ".join(words), bits(unit.policy))


def _box(box: Box, x: float, y: float, tall: float) -> str:
    """A box with up to three lines of text around its middle."""
    lines = [(box.title, "box-title"), (box.detail, "box-detail")]
    lines += [(box.bits, "bits" if box.bits == "fp32" else "bits few")]
    lines = [line for line in lines if line[0]]
    first = y + tall / 2 + 4 - 7 * (len(lines) - 1)
    return "".join(
        [
            tag("rect", x=x, y=y, width=CELL, height=tall, rx=6, class_=f"box {box.kind}"),
            tag("rect", x=x, y=y, width=5, height=tall, rx=2.5, class_=f"edge {box.kind}"),
            *(label(x + 11, first + 14 * i, *line) for i, line in enumerate(lines)),
        ]
    )


def _tokens(tokens: int, most: int, x: float, y: float) -> str:
    """How many tokens go on, as a bar of that length."""
    share = CELL * tokens / most
    return (
        tag("rect", x=x, y=y, width=CELL, height=6, rx=3, class_="rail")
        + tag("rect", x=x, y=y, width=max(share, 3.0), height=6, rx=3, class_="tokens")
        + label(x, y + 20, f"{tokens} tokens", "tick")
    )
