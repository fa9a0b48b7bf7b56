"""Recognition: which sub-block a piece of an ONNX graph looks like, and whose kernels it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from typing import Any

from ...spaces import Block, Place, Policy
from ..units.signature import route_flag
from ..units.sub_block import SubBlock
from .onnx_counting import Linear, Piece
from .onnx_pieces import choosing

_NORMS = {
    "layer": {"LayerNormalization"},
    "group": {"InstanceNormalization", "GroupNormalization"},
    "rms": {"RMSNormalization", "Sqrt", "Reciprocal"},
}


def recognize(pieces: Sequence[Piece]) -> list[tuple[Piece, SubBlock | None, str]]:
    """Sub-block that each piece looks like, None if it looks like none, and its kernels' recipe.

    Layers that are factored into two are not recognized.
    """
    reader = _Reader(pieces)
    for piece in pieces:
        reader.read(piece)
    return reader.recognized


class _Reader:
    """Recognizes pieces in order and remembers what later ones depend on."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._choosing = {id(pieces[i]): rows for i, rows in choosing(pieces).items()}
        plain = [piece for piece in pieces if id(piece) not in self._choosing]
        kinds: set[str] = set().union(*(piece.kinds for piece in plain))
        self.norm = next((n for n, own in _NORMS.items() if own & kinds), "batch")
        self._acts = {id(p): act for p, act in zip(plain, acts_of(plain), strict=True)}
        self.act = "gelu"  # around the piece that is read
        self.batch = pieces[0].enters[0] if pieces else 1
        self.side = self.prefix = 0
        self.recognized: list[tuple[Piece, SubBlock | None, str]] = []
        self._end = pieces[-1] if pieces else None
        self.rows = 0  # among which some were chosen last
        self.routing = ""  # how they were, until their branch is read

    def read(self, piece: Piece) -> None:
        """The next piece."""
        if id(piece) in self._choosing:
            self._choose(piece)
            return
        self.act = self._acts[id(piece)]
        if piece.is_branch:
            block = self._mlp(piece) or self._grid_mixer(piece) or self._attention(piece)
            self.routing = ""
        elif piece is self._end:
            block = self._head(piece)
        elif not self.side:
            block = self._stem(piece)
        elif not piece.convolutions and not piece.linears:
            self._drop(piece)
            return
        else:
            block = self._downsample(piece)
        self.recognized.append((piece, block, recipe_of(piece)))

    def _choose(self, piece: Piece) -> None:
        """Remember among how many rows, and how, some are chosen; dropped ones are none of them."""
        self.rows = self._choosing[id(piece)] // self.batch
        if len(piece.enters) == 3 and not piece.scattered:
            self._keep(piece, self.rows - self.prefix)
        self.routing = "learned" if (1 in {x.outputs for x in piece.linears}) else "random"

    def _as_tokens(self, shape: Sequence[int]) -> Sequence[int]:
        """A grid that ends in its channels is one of tokens, whose layers they are."""
        if len(shape) == 4 and shape[1] == shape[2] == self.side != shape[3]:
            return [shape[0], self.side**2, shape[3]]
        return shape

    def _place(self, block: Block, shape: Sequence[int]) -> Place:
        shape = self._as_tokens(shape)
        rows, width = (shape[1], shape[2]) if len(shape) == 3 else (self.side**2, shape[1])
        tokens = rows - self.prefix
        grid = self.side, self.side
        return Place(block, width, grid, self.prefix, tokens, tokens, act=self.act)

    def _bare(self, shape: Sequence[int]) -> Place:
        layout = "pool" if len(self._as_tokens(shape)) == 4 else "softmax"
        return self._place(Block(layout), shape)

    def _sub_block(self, kind: str, variant: str, place: Place, *flags: str) -> SubBlock:
        return SubBlock(kind, place, Policy(), self.norm, variant, flags=flags)

    def _stem(self, piece: Piece) -> SubBlock | None:
        first, last = piece.convolutions[:1], piece.convolutions[-1:]
        side = isqrt(last[0].positions // self.batch) if last else 0
        if not side or piece.linears or len(piece.leaves) not in (3, 4):
            return None
        self.side = side
        if len(piece.leaves) == 3:
            self.prefix = piece.leaves[1] - self.side**2
        tables = [shape for shape in piece.added if len(shape) == 3 and shape[1] > 1]
        normed = piece.kinds & {kind for kinds in _NORMS.values() for kind in kinds}
        flags = ["pos"] * bool(tables) + ["norm"] * bool(normed)
        variant = "patch" if len(piece.convolutions) == 1 else "conv"
        stem = self._sub_block("stem", variant, self._bare(piece.leaves), *flags)
        patch = piece.enters[-1] // self.side
        return replace(stem, inputs=first[0].inputs, patch_size=patch)

    def _downsample(self, piece: Piece) -> SubBlock | None:
        layers = len(piece.convolutions), len(piece.linears)
        if layers == (1, 0):
            [conv] = piece.convolutions
            positions, inputs = conv.positions, conv.inputs
            variant = "patch" if conv.kernel == (2, 2) else "conv"
        elif layers == (0, 1) and piece.linears[0].inputs % 4 == 0:
            positions, inputs, variant = (
                piece.linears[0].rows,
                piece.linears[0].inputs // 4,
                "merge",
            )
        else:
            return None
        self.side = isqrt(positions // self.batch)
        place = self._bare(piece.leaves)
        return replace(self._sub_block("downsample", variant, place), inputs=inputs)

    def _drop(self, piece: Piece) -> None:
        """Add the dropping of tokens to the mixer before it, to which it belongs."""
        if len(piece.leaves) == 3 and not piece.scattered:
            self._keep(piece, piece.leaves[1] - self.prefix)

    def _keep(self, piece: Piece, kept: int) -> None:
        if not self.recognized:
            return
        mixer, block, recipe = self.recognized[-1]
        if block is None or block.kind != "mixer" or kept == block.place.tokens:
            return
        fused = "evit_mean" if "ReduceSum" in piece.kinds else "evit"
        flag = fused if piece.products else "random"
        place = replace(block.place, kept=kept)
        self.recognized[-1] = mixer, replace(block, place=place, flags=(*block.flags, flag)), recipe

    def _head(self, piece: Piece) -> SubBlock | None:
        if piece.convolutions or piece.products or len(piece.linears) not in (1, 2):
            return None
        two = "distill" if self.prefix else "avg_distill"
        plain = two if len(piece.linears) == 2 else "avg"
        variant = "token" if plain == "avg" and "Gather" in piece.kinds else plain
        enters = piece.enters
        place = self._bare([enters[0], self.rows, enters[2]] if piece.scattered else enters)
        head = self._sub_block("head", variant, place)
        return replace(head, outputs=piece.linears[0].outputs)

    def _mlp(self, piece: Piece) -> SubBlock | None:
        """Two layers that widen and narrow again, on tokens, on a grid, or across tokens."""
        dense = [c for c in piece.convolutions if c.kernel == (1, 1)]
        if len(dense) == 2 == len(piece.convolutions) and not piece.linears:
            mixer = "conv_mlp" if self._lacks_norm(piece) else "pool"
            place = self._place(Block(mixer, mlp_hidden=dense[0].outputs), piece.enters)
            if mixer == "pool":
                return self._fed("mlp", "conv", place)
            return self._sub_block("mixer", mixer, place)
        if len(piece.linears) != 2 or piece.products or piece.convolutions:
            return None
        first, second = piece.linears
        if (first.inputs, first.outputs) != (second.outputs, second.inputs):
            return None
        if "Transpose" in piece.kinds and first.length == piece.enters[-1]:
            block = Block("token_mlp", token_hidden=first.outputs)
            place = self._place(block, piece.enters)
            return self._sub_block("mixer", "token_mlp", place, *_scale(piece))
        place = self._place(Block(mlp_hidden=first.outputs), piece.enters)
        return self._fed("mlp", "mlp", place)

    def _lacks_norm(self, piece: Piece) -> bool:
        """Whether there is no norm in it, nor one that its layers could have taken in."""
        return self.norm in _NORMS and not _NORMS[self.norm] & piece.kinds

    def _fed(self, kind: str, variant: str, place: Place) -> SubBlock:
        """Attention or an MLP of all tokens, or of those that were chosen just before."""
        if not self.routing:
            return self._sub_block(kind, variant, place)
        tokens, chosen = self.rows - self.prefix, place.tokens
        among = replace(place, tokens=tokens, kept=tokens)
        routed = replace(among, mixed=chosen) if kind == "mixer" else replace(among, routed=chosen)
        return self._sub_block(kind, variant, routed, route_flag(kind, self.routing))

    def _grid_mixer(self, piece: Piece) -> SubBlock | None:
        """Average pooling, or an inverted bottleneck."""
        if piece.linears or piece.products:
            return None
        if not piece.convolutions and "AveragePool" in piece.kinds:
            mixer = "pool_raw" if self._lacks_norm(piece) else "pool"
            place = self._place(Block(mixer), piece.enters)
            return self._sub_block("mixer", mixer, place, *_scale(piece))
        if len(piece.convolutions) != 3:
            return None
        first, middle, _ = piece.convolutions
        if middle.groups != first.outputs:
            return None
        block = Block("mbconv", kernel_size=middle.kernel[0], mlp_hidden=first.outputs)
        return self._sub_block("mixer", "mbconv", self._place(block, piece.enters))

    def _attention(self, piece: Piece) -> SubBlock | None:
        """Attention, its queries, keys and values in one layer or in three."""
        if len(piece.linears) not in (2, 4) or not piece.products:
            return None
        last = piece.linears[-1]
        if last.outputs != piece.enters[-1]:
            return None
        relative = False
        if "Softmax" not in piece.kinds:
            block = self._linear_attention(piece)
        elif piece.convolutions:
            block = None
        elif piece.rank >= 6:  # rows and columns of windows, and of tokens in them
            heads = piece.products[0].batch * last.length // last.rows
            keys, values = piece.products[0].inner, last.inputs // heads
            block = Block(
                "window",
                num_heads=heads,
                head_dim=keys,
                value_dim=0 if values == keys else values,
                window_size=isqrt(last.length),
                shift="Concat" in piece.kinds,
            )
            table = [heads, last.length, last.length]
            relative = any(shape[-3:] == table for shape in piece.added)
        else:
            block = self._global_attention(piece)
        if block is None:
            return None
        place = replace(self._place(block, piece.enters), relative=relative)
        return self._fed("mixer", block.mixer, place)

    def _linear_attention(self, piece: Piece) -> Block | None:
        if len(piece.products) != 3 or len(piece.convolutions) != 1:
            return None
        (depthwise,), heads = piece.convolutions, piece.products[0].batch // self.batch
        if depthwise.groups != depthwise.outputs:
            return None
        return Block("linear", **_heads(heads, piece.linears[-1]), kernel_size=depthwise.kernel[0])

    def _global_attention(self, piece: Piece) -> Block | None:
        """All tokens as queries; keys are all tokens too, or pooled ones, or shared by heads."""
        *inner, last = piece.linears
        if last.length != piece.enters[1]:
            return None
        heads = piece.products[0].batch // self.batch
        given = _heads(heads, last)
        if piece.products[0].inner != given["head_dim"]:  # values wider than keys
            return None
        keys = min(inner, key=lambda layer: (layer.rows, layer.outputs))  # as many, or fewer
        if keys.rows < last.rows:
            pooled = isqrt(keys.length - self.prefix)
            return Block("pooled", **given, kv_pool=-(-self.side // pooled))
        if len(inner) == 3 and keys.outputs < last.inputs:
            return Block("grouped", **given, kv_heads=keys.outputs // given["head_dim"])
        return Block("softmax", **given)


def acts_of(pieces: Sequence[Piece]) -> list[str]:
    """Activation of each piece, or where it has none that of its stage: of the next, or the last.

    It is the one that most elements pass through: a gate of squeeze-and-excitation, a sigmoid too,
    sees one a channel. ReLU before a product of activations belongs to linear attention.
    """
    acts = ["" if p.products or not p.acts else p.acts.most_common(1)[0][0] for p in pieces]
    for order, act in ((reversed(range(len(acts))), ""), (range(len(acts)), "gelu")):
        for i in order:
            acts[i] = act = acts[i] or act
    return acts


def _heads(heads: int, last: Linear) -> dict[str, Any]:
    """Numbers of attention whose last layer reads the heads side by side."""
    return {"num_heads": heads, "head_dim": last.inputs // heads}


def _scale(piece: Piece) -> list[str]:
    """A layer scale that no linear layer could take in is the last thing before the Add."""
    return ["scale"] * (piece.last == "Mul")


def recipe_of(piece: Piece) -> str:
    """The recipe whose kernels a piece has."""
    others = [recipe for recipe in piece.recipes if recipe not in ("", "float")]
    return max(others, key=others.count) if others else "float"
