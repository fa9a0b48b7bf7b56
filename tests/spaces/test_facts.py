"""Counted numbers of a candidate equal those of its network, counted by hooks."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitpareto.cost_models import workload
from vitpareto.spaces import Architecture, Block, Candidate, Stage
from vitpareto.spaces.architecture import DOWNSAMPLES, NORMS, TOKEN_REDUCTIONS, TOKEN_ROUTINGS
from vitpareto.spaces.mixers import MIXERS
from vitpareto.spaces.networks import Network

from .helpers import NUMBERS, efficient, images, levit, mobile, small


def hooked(architecture: Architecture) -> tuple[int, int]:
    """Parameters and multiply-accumulates of one image, as torch counts them."""
    network = Network(architecture).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images(architecture, 1))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2


def counted(candidate: Candidate) -> tuple[int, int]:
    """The same from arithmetic on the candidate."""
    found = workload(candidate)
    return found.params, found.macs


def test_presets(candidates: list[Candidate]) -> None:
    """But for ranks and branches, which have parameters of their own."""
    for candidate in candidates[:5]:
        plain = Candidate.uncompressed(replace(candidate.architecture, reparam=False))
        assert counted(plain) == hooked(plain.architecture)


def corners() -> Iterator[Architecture]:
    """Every mixer, norm, stem, pooling and downsampling, on grids that squares do not divide."""
    for mixer in MIXERS:
        yield small(
            Block(mixer, num_heads=2, head_dim=8, shift=True, mlp_hidden=48, **NUMBERS),
            input_size=28,
        )
    plain = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=48)
    dropping = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=48, token_keep=0.6)
    for norm in NORMS:
        yield small(plain, norm=norm, layer_scale=True, stem_norm=True)
    yield small(plain, stem="overlap", norm="group1", final_norm="pooled", final_eps=1e-5)
    yield small(plain, dropping, norm="rms", post_norm=True)
    for pool in ("avg", "token", "distill"):
        for how in TOKEN_REDUCTIONS:
            yield small(dropping, plain, global_pool=pool, token_reduction=how)
        for how in TOKEN_ROUTINGS:
            both = replace(plain, mlp_capacity=0.6, mixer_capacity=0.4)
            routed = (replace(dropping, mlp_capacity=0.3), both)
            yield small(*routed, global_pool=pool, token_routing=how)
    yield small(Block("pool", mlp_hidden=48, mlp_capacity=0.5), norm="batch", mlp="glu")
    heads = {"num_heads": 2, "head_dim": 8, "mlp_hidden": 48, **NUMBERS}
    chosen = (Block(mixer, mixer_capacity=0.3, **heads) for mixer in ("grouped", "performer"))
    yield small(*chosen, layer_scale=True)
    yield small(plain, stem="convs")
    yield small(plain, stem="mobile", head_hidden=24)
    yield mobile()
    yield levit()
    yield efficient()
    one = Block("separable", kernel_size=3)  # token a grid, of which the half is itself
    yield Architecture((Stage(8, (one,)), Stage(8, (one,), "inverted")), 4, 3, 5, patch_size=4,
                       pos_embed="none", global_pool="avg")  # fmt: skip
    window = Block("window", num_heads=2, head_dim=8, window_size=4, shift=True, mlp_hidden=48)
    for downsample in DOWNSAMPLES:
        for pos_embed in ("learned", "relative", "none"):
            stages = (Stage(24, (window,)), Stage(40, (window, plain), downsample))
            yield Architecture(stages, 32, 1, 5, "conv", 4, pos_embed=pos_embed, global_pool="avg")


@pytest.mark.parametrize("architecture", list(corners()), ids=lambda _: "")
def test_corners(architecture: Architecture) -> None:
    assert counted(Candidate.uncompressed(architecture)) == hooked(architecture)


LINEAR = (
    *("linformer", "performer", "linear", "multiscale_linear", "pool", "mbconv"),
    *("window", "cosine_window", "cascaded_window", "halo", "banded", "focal", "aggregate"),
)


@pytest.mark.parametrize("mixer", [*LINEAR, "softmax", "grouped", "token_linear"])
def test_work_of_some_mixers_grows_with_the_tokens(mixer: str) -> None:
    """With their own numbers as they are; others have the square of the tokens in it."""
    block = Block(mixer, num_heads=2, head_dim=8, mlp_hidden=48, **NUMBERS)
    made = (small(block, input_size=4 * side, pos_embed="none") for side in (6, 12, 24))
    work = [
        sum(unit.macs for unit in workload(Candidate.uncompressed(a)).sub_blocks[1:-1])
        for a in made
    ]
    slopes = (work[1] - work[0]) / (144 - 36), (work[2] - work[1]) / (576 - 144)
    assert (slopes[1] == pytest.approx(slopes[0], rel=0.02)) == (mixer in LINEAR), slopes


def test_bytes_follow_bits(candidates: list[Candidate]) -> None:
    for candidate in candidates:
        plain = workload(Candidate.uncompressed(candidate.architecture))
        assert plain.weight_bytes == 4 * plain.params
        compressed = workload(candidate)
        if any(block.policy.others for block in compressed.sub_blocks):
            continue  # whose ranks and zeros change what is stored, too
        assert compressed.params == plain.params
        assert plain.params / 2 < compressed.weight_bytes <= plain.weight_bytes
        assert compressed.moved_bytes <= plain.moved_bytes


def test_sub_blocks_are_in_order(candidates: list[Candidate]) -> None:
    for candidate in candidates:
        units = workload(candidate).sub_blocks
        kinds = [unit.kind for unit in units]
        assert (kinds[0], kinds[-1]) == ("stem", "head")
        assert kinds.count("downsample") == len(candidate.architecture.stages) - 1
        mixers = [unit.variant for unit in units if unit.kind == "mixer"]
        assert mixers == [block.mixer for block in candidate.architecture.blocks()]
        assert len({unit.key for unit in units}) == len(set(units))
