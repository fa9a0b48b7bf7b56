"""Architecture: everything that fixes a network's shapes, as data under timm's names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from . import mixers
from .block import Block

STEMS = ("patch", "conv", "convs", "mobile", "overlap")
HALVING = ("conv", "convs", "mobile")  # stems that halve the image again and again
POS_EMBEDS = ("learned", "patches", "relative", "none")
GLOBAL_POOLS = ("token", "distill", "avg", "avg_distill", "token_avg", "map")
CLASS_TOKENS = {"token": 1, "distill": 2, "avg": 0, "avg_distill": 0, "token_avg": 1, "map": 0}
TWO_HEADS = ("distill", "avg_distill")  # the second learns from a teacher alone
FINAL_NORMS = ("tokens", "pooled", "none")
MLPS = ("plain", "glu")
NORMS = ("layer", "rms", "batch", "group", "group1", "affine")
ACTS = ("gelu", "relu", "silu", "hardswish", "gelu_tanh", "quick_gelu", "relu6")
DOWNSAMPLES = (
    *("conv", "merge", "merge_post", "patch", "overlap", "mbconv", "inverted", "pointwise"),
    *("conv_attention", "attention", "inverted_bias"),
)
INVERTED = ("inverted", "inverted_bias")
# Mixers whose numbers they have.
INNER = {"attention": "levit"} | dict.fromkeys(INVERTED, "mbconv")
# Those that take grids of odd sides, of which halves are rounded up.
ROUNDED = ("attention", *INVERTED)
SAME_GRID = ("conv", "overlap", *INVERTED, "pointwise")  # those that may leave the grid as it is
SE_GATES = ("hard_sigmoid", "sigmoid")
FUSING = ("evit", "evit_mean")  # ways to drop tokens that leave one for all that were dropped
TOKEN_REDUCTIONS = (*FUSING, "random")
TOKEN_ROUTINGS = ("learned", "random")
# Stems and downsampling whose convolutions `reparam` trains in branches.
BRANCHED = {
    "stem": HALVING,
    "downsample": ("conv", "mbconv", "overlap", *INVERTED, "conv_attention"),
}

# Numbers of a stage that some kinds of downsampling have alone.
LED_BY = {
    "downsample_hidden": INVERTED,
    "downsample_kernel": INVERTED,
    "downsample_se": INVERTED,
    "downsample_head_dim": ("attention",),
}


def halved(side: int, times: int) -> int:
    """Side of a grid that was halved some times, rounded up.

    >>> halved(14, 1), halved(14, 2)
    (7, 4)
    """
    return -(-side >> times)


def even_halvings(led: Iterable[tuple[int, Iterable[object]]]) -> int:
    """How often a grid is halved up to the last time that its side must be even.

    Args:
        led: stride, and kinds of downsampling that there may be, of each stage but the first.

    >>> even_halvings([(2, ["conv"]), (1, ["conv"]), (2, ["attention"])])
    1
    """
    times = needed = 0
    for stride, kinds in led:
        times += stride == 2
        needed = times if stride == 2 and set(kinds) - set(ROUNDED) else needed
    return needed


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width on one token grid.

    Attributes:
        width: channels of the residual stream.
        blocks: the blocks in order.
        downsample: how the grid was halved before the stage, "conv", "merge" (Swin's),
            "merge_post" (SwinV2's), "patch" (ConvNeXt's), "overlap" (PoolFormer's), "mbconv"
            (TinyViT's), "inverted" (MobileNet's inverted residual without the residual),
            "inverted_bias" (EfficientViT's, with biases for its first two norms), "pointwise"
            (1x1, norm and activation), "conv_attention" (EfficientFormerV2's) or "attention"
            (LeViT's); the first stage has the stem.
        stride: 2, or 1 where the grid stays as it was.
        act: activation, where it is another than the network's; "" for that.
        downsample_hidden: channels of `INVERTED` between its convolutions; 0 for those that enter,
            without a first convolution.
        downsample_kernel: side of its depthwise convolution.
        downsample_se: channels of its squeeze-and-excitation; 0 for none.
        downsample_head_dim: channels of queries and keys of a head of "attention".
        exits: after how many of its blocks a head may answer, "4,8"; "none" for nowhere but at
            the end of the network. See `exits`.
    """

    width: int
    blocks: tuple[Block, ...]
    downsample: str = "conv"
    # Not in `repr`, by which libraries of older releases know their start.
    stride: int = field(default=2, repr=False)
    act: str = field(default="", repr=False)
    downsample_hidden: int = field(default=0, repr=False)
    downsample_kernel: int = field(default=3, repr=False)
    downsample_se: int = field(default=0, repr=False)
    downsample_head_dim: int = field(default=16, repr=False)
    exits: str = field(default="none", repr=False)

    @property
    def inner(self) -> tuple[int, int, int]:
        """Hidden channels, kernel and channels of squeeze-and-excitation of its downsampling."""
        return self.downsample_hidden, self.downsample_kernel, self.downsample_se


def _canonical(stage: Stage, index: int, act: str) -> Stage:
    """The stage without what has no effect: the first is led to by the stem."""
    blocks = tuple(mixers.canonical(block) for block in stage.blocks)
    own = "" if stage.act == act else stage.act
    if not index:
        return Stage(stage.width, blocks, act=own, exits=stage.exits)
    kept = {name: getattr(stage, name) for name, by in LED_BY.items() if stage.downsample in by}
    led = stage.downsample, stage.stride, own
    return Stage(stage.width, blocks, *led, exits=stage.exits, **kept)


@dataclass(frozen=True)
class Architecture:
    """A network's shapes; canonical, so that equal networks have equal architectures.

    Attributes:
        stages: one stage for a plain vision transformer, several for a hierarchy.
        input_size: side of the square input image in pixels.
        in_chans: image channels.
        num_classes: outputs of the head; 0 for none, so that features come out.
        stem: "patch" (one convolution), "conv" (3x3 convolutions of stride 2, then 1x1), "convs"
            (without the last), "mobile" (without the last, and with an activation at the end) or
            "overlap" (one convolution of nearly twice the patch).
        patch_size: pixels a token is wide and high after the stem.
        stem_bias: whether a stem of one convolution has a bias.
        stem_norm: a norm after the stem, as in Swin.
        registers: learned tokens beside the patches that stand for no class.
        pos_embed: "learned" table of all tokens or of "patches" only, "relative" bias inside
            windows, or "none". Rotary positions are numbers of mixers.
        pre_norm: a norm before the first block, as in CLIP.
        post_norm: the norms of blocks are after mixer and MLP instead of before, on what is added
            to the stream, as in SwinV2.
        global_pool: class "token", class and "distill" tokens with a head each, "avg" of the
            patches, "avg_distill" with a head more for what a teacher says, "token_avg" with class
            token and average side by side, or "map", attention of a learned query.
        pool_registers: whether "avg" and "map" see the registers too.
        pool_heads: heads of "map".
        pool_mlp_ratio: hidden units of the MLP of "map", as a multiple of the width.
        head_hidden: units of a layer with activation before the head, as in MobileNetV3; 0 for
            none.
        head_norm: a norm of these units in place of biases, as in EfficientViT.
        se_gate: of squeeze-and-excitation, "hard_sigmoid" as in MobileNetV3, or "sigmoid".
        final_norm: where the last norm is: on all "tokens", after pooling ("pooled"; of
            "avg_distill" one for each head), or "none".
        final_eps: epsilon of the last norm, where it is another; 0 for that of all.
        norm: "layer", "rms", "batch", "group" (of 8 channels), "group1" (one group of all channels
            and tokens, as in PoolFormer) or "affine" (scale and shift alone).
        norm_eps: epsilon of every norm, but for the last where `final_eps` is given.
        act: activation of MLPs and convolutions.
        mlp: "plain", or "glu" with a second first layer that is gated by the activation of the
            first (SwiGLU with `act: silu`; Shazeer, arXiv:2002.05202).
        mlp_norm: a norm of the hidden units.
        mlp_bias: whether the layers of MLPs have biases.
        layer_scale: a learned scale on every residual branch.
        token_reduction: which tokens are dropped: the least attended ("evit", where the fused
            token is the sum of the dropped ones by their attention, and "evit_mean", where it is
            their mean), or a fixed "random" subset, the control.
        token_routing: which tokens get a mixer or MLP of capacity below 1: those of the highest
            "learned" score, or a fixed "random" subset, the control.
        reparam: convolutions that are larger than 1x1 are trained as sums of two, of stems and
            downsampling in `BRANCHED`, and of mixers that say so; they run as one. Which weights
            there are says the same, so it is not in `repr`, by which libraries know their start.
    """

    stages: tuple[Stage, ...]
    input_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000
    stem: str = "patch"
    patch_size: int = 16
    stem_bias: bool = True
    stem_norm: bool = False
    registers: int = 0
    pos_embed: str = "learned"
    pre_norm: bool = False
    post_norm: bool = False
    global_pool: str = "token"
    pool_registers: bool = False
    pool_heads: int = 8
    pool_mlp_ratio: float = 4.0
    final_norm: str = "tokens"
    final_eps: float = 0.0
    norm: str = "layer"
    norm_eps: float = 1e-6
    act: str = "gelu"
    mlp: str = "plain"
    mlp_norm: bool = False
    mlp_bias: bool = True
    layer_scale: bool = False
    token_reduction: str = "evit"
    token_routing: str = "learned"
    reparam: bool = field(default=False, repr=False)
    head_hidden: int = field(default=0, repr=False)
    head_norm: bool = field(default=False, repr=False)
    se_gate: str = field(default="hard_sigmoid", repr=False)

    def __post_init__(self) -> None:
        stages = tuple(_canonical(s, index, self.act) for index, s in enumerate(self.stages))
        object.__setattr__(self, "stages", stages)
        for name in self._unused():
            object.__setattr__(self, name, type(self).__dataclass_fields__[name].default)

    def _unused(self) -> Iterator[str]:
        """Fields that have no effect beside the others."""
        if self.global_pool != "map":
            yield from ("pool_heads", "pool_mlp_ratio")
        if not self.registers or self.global_pool not in ("avg", "map"):
            yield "pool_registers"
        if self.stem in HALVING:
            yield "stem_bias"
        if not self.head_hidden:
            yield "head_norm"
        if self.se_gate != SE_GATES[0] and not self._squeezes():
            yield "se_gate"
        if self.final_norm == "none" or self.final_eps == self.norm_eps:
            yield "final_eps"
        if all(block.token_keep == 1 for block in self.blocks()):
            yield "token_reduction"
        if all(block.mlp_capacity == block.mixer_capacity == 1 for block in self.blocks()):
            yield "token_routing"
        if self.reparam and not self._has_branches():
            yield "reparam"

    def _squeezes(self) -> bool:
        """Whether there is any squeeze-and-excitation."""
        numbers = (name for block in self.blocks() for name, _ in block.numbers)
        return any(stage.downsample_se for stage in self.stages) or "se_hidden" in numbers

    def _has_branches(self) -> bool:
        """Whether any convolution could be trained in branches."""
        return (
            self.stem in BRANCHED["stem"]
            or any(stage.downsample in BRANCHED["downsample"] for stage in self.stages[1:])
            or any(mixers.find(block.mixer).reparam for block in self.blocks())
        )

    @property
    def grid(self) -> int:
        """Side of the token grid after the stem."""
        return self.input_size // self.patch_size

    def side(self, stage: int) -> int:
        """Side of the token grid of a stage; halves of odd ones are rounded up."""
        return halved(self.grid, self._halvings(stage))

    def stride(self, stage: int) -> int:
        """Pixels of the image from one token of a stage to the next."""
        return self.patch_size << self._halvings(stage)

    def _halvings(self, stage: int) -> int:
        return sum(one.stride == 2 for one in self.stages[1 : stage + 1])

    @property
    def halvings(self) -> int:
        """How often the grid is halved up to the last time that its side must be even."""
        return even_halvings((stage.stride, (stage.downsample,)) for stage in self.stages[1:])

    def act_of(self, stage: int) -> str:
        """Activation of the blocks of a stage, and of what leads to it."""
        return self.stages[stage].act or self.act

    @property
    def class_tokens(self) -> int:
        """Number of class and distillation tokens, which stand before all others."""
        return CLASS_TOKENS[self.global_pool]

    @property
    def heads(self) -> int:
        """Number of heads, whose mean is the answer."""
        return 2 if self.global_pool in TWO_HEADS else 1

    @property
    def prefix(self) -> int:
        """Number of tokens before those of patches: class tokens, then registers."""
        return self.class_tokens + self.registers

    def blocks(self) -> Iterator[Block]:
        """All blocks of all stages in order."""
        for stage in self.stages:
            yield from stage.blocks
