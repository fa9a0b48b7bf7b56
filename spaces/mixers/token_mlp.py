"""Two linear layers across tokens, as in MLP-Mixer."""

from __future__ import annotations

from .. import ops
from ..block import Block, Place
from ..ops import Op
from .spec import Mixer, Number, Rule


def layers(place: Place) -> list[Op]:
    """The same two layers for every channel."""
    hidden = place.block.token_hidden
    return [
        ops.linear(place.width, place.tokens, hidden),
        ops.elementwise(place.width * hidden),
        ops.linear(place.width, hidden, place.tokens),
    ]


TOKEN_HIDDEN = Number(
    "token_hidden",
    0.5,
    field="token_mlp_ratio",
    build=lambda ratio, given: int(given.width * ratio),
    reads=("width",),
    axis="hidden",
)
HIDDEN_GIVEN = Rule(
    ("token_hidden",),
    lambda hidden: hidden > 0,
    "mixer {mixer!r} needs token_mlp_ratio above 0",
)

SPEC = Mixer(
    module=".token_mlp:TokenMlp",
    ops=layers,
    example=Block("token_mlp", token_hidden=96),
    numbers=(TOKEN_HIDDEN,),
    rules=(HIDDEN_GIVEN,),
    fixed_tokens=True,
    act_elements=lambda place: place.width * place.block.token_hidden,
)
