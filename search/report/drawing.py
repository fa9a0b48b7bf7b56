"""Drawing: a delivered architecture, block by block, as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...cost_models.units.sub_block import SubBlock
from ...cost_models.units.workload import is_exit, workload
from ...spaces import Candidate
from ...spaces.mixers.window import side_of
from .markup import tag
from .svg import label, picture
from .words import bits

CELL, GAP, TALL = 84, 7, 52  # pixels: width of a column, between columns, height of a rectangle
BAR = 26  # pixels for the bar of tokens


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A sub-block to draw: its name, its numbers, and its precision."""

    kind: str
    title: str
    detail: str
    bits: str


@dataclass(frozen=True, slots=True)
class Column:
    """A block, or the stem, a downsampling or the head.

    Attributes:
        shapes: one or two, above each other.
        heading: above them, where a stage begins.
        tokens: number that leaves it; 0 if not shown.
    """

    shapes: Sequence[Rectangle]
    heading: str = ""
    tokens: int = 0


def draw(candidate: Candidate, width: int) -> str:
    """Draw an architecture as columns from the stem to the head, in as many lines as needed."""
    drawn = columns(candidate)
    across = max(1, (width + GAP) // (CELL + GAP))
    line = 20 + 2 * TALL + 8 + BAR + 22
    lines = -(-len(drawn) // across)
    most = max(column.tokens for column in drawn)
    parts: list[str] = []
    for i, column in enumerate(drawn):
        x, y = i % across * (CELL + GAP), i // across * line + 16
        if column.heading:
            parts.append(label(x, y - 2, column.heading, "heading"))
        if i % across:
            middle = y + 8 + TALL
            parts.append(tag("line", x1=x - GAP, x2=x, y1=middle, y2=middle, class_="flow"))
        tall = TALL if len(column.shapes) > 1 else 2 * TALL + 4
        parts += [
            _rectangle(shape, x, y + 8 + j * (TALL + 4), tall)
            for j, shape in enumerate(column.shapes)
        ]
        if column.tokens:
            parts.append(_tokens(column.tokens, most, x, y + 8 + 2 * TALL + 12))
    return picture(width, lines * line, "Architecture", *parts)


def columns(candidate: Candidate) -> list[Column]:
    """Stem, blocks and head of a candidate in the order in which they run."""
    a, listed = candidate.architecture, list[Column]()
    stage, exits = 0, {number for number, ends in enumerate(is_exit(candidate)) if ends}
    for number, unit in enumerate(workload(candidate).sub_blocks):
        tokens = unit.place.kept
        if unit.kind == "stem":
            stem = Rectangle("plain", "stem", f"{unit.variant} {a.patch_size}", bits(unit.policy))
            listed.append(Column([stem], f"{a.input_size} px", unit.place.tokens))
        elif unit.kind == "downsample":
            stage += 1
            name = "widen" if "stride_1" in unit.flags else "halve"
            listed.append(Column([Rectangle("plain", name, unit.variant, bits(unit.policy))]))
        elif unit.kind == "head":
            name = "exit" if number in exits else "head"
            listed.append(
                Column([Rectangle("plain", name, f"{unit.outputs} classes", bits(unit.policy))])
            )
        elif unit.kind == "mixer":
            first = listed[-1].shapes[0].kind == "plain"
            name = "" if len(a.stages) == 1 else f"stage {stage + 1}: "
            heading = f"{name}width {unit.place.width}" if first else ""
            listed.append(Column([_mixer(unit)], heading, tokens))
        else:
            words = f"{unit.place.block.mlp_hidden} hidden"
            words += f", {unit.fed_rows} tokens" if unit.is_routed else ""
            mlp = Rectangle("mlp", "MLP", words, bits(unit.policy))
            listed[-1] = Column([*listed[-1].shapes, mlp], listed[-1].heading, tokens)
    return listed


def _mixer(unit: SubBlock) -> Rectangle:
    b = unit.place.block
    left = {n: v for n, v in b.numbers if n not in ("head_dim", "kv_pool", "shift")}
    side = side_of(unit.place) if "window_size" in left else 0
    formats = {
        "num_heads": "{0} head" if left.get("num_heads") == 1 else "{0} heads",
        "window_size": f"{side}x{side}",
        "kv_heads": "{0}kv",
        "kernel_size": "{0}x{0}",
        "token_hidden": "{0} hidden",
    }
    formats |= {name: f"{name} {{0}}" for name in left if name not in formats}
    words = [text.format(left[name]) for name, text in formats.items() if name in left][:2]
    if unit.is_routed:
        words = [*words[:1], f"{unit.fed_rows} tokens"]
    return Rectangle(b.mixer, b.mixer.replace("_", " "), ", ".join(words), bits(unit.policy))


def _rectangle(shape: Rectangle, x: float, y: float, tall: float) -> str:
    """A rectangle with up to three lines of text around its middle."""
    lines = [(shape.title, "box-title"), (shape.detail, "box-detail")]
    lines += [(shape.bits, "bits" if shape.bits == "fp32" else "bits few")]
    lines = [line for line in lines if line[0]]
    first = y + tall / 2 + 4 - 7 * (len(lines) - 1)
    return "".join(
        [
            tag("rect", x=x, y=y, width=CELL, height=tall, rx=6, class_=f"box {shape.kind}"),
            tag("rect", x=x, y=y, width=5, height=tall, rx=2.5, class_=f"edge {shape.kind}"),
            *(label(x + 11, first + 14 * i, *line) for i, line in enumerate(lines)),
        ]
    )


def _tokens(tokens: int, most: int, x: float, y: float) -> str:
    """Number of tokens that are left, as a bar of that length."""
    share = CELL * tokens / most
    return (
        tag("rect", x=x, y=y, width=CELL, height=6, rx=3, class_="rail")
        + tag("rect", x=x, y=y, width=max(share, 3.0), height=6, rx=3, class_="tokens")
        + label(x, y + 20, f"{tokens} tokens", "tick")
    )
