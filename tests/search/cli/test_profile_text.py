"""What a stranger reads in a profile: which blocks to change first, why, and what is rough."""

from dataclasses import replace

import pytest

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.profile.liveness import Peaks
from vitpareto.cost_models.profile.profile import Profile, ProfiledBlock, TimedKernel
from vitpareto.cost_models.profile.roofline import MachinePeaks
from vitpareto.cost_models.profile.tensors import Tensor
from vitpareto.search.cli.profile_text import profile_lines
from vitpareto.spaces import SearchSpace

MS = {"stem": 0.1, "mixer": 0.2, "mlp": 0.5, "head": 0.1}


@pytest.fixture
def profile(space: SearchSpace) -> Profile:
    units = workload(space.largest()).sub_blocks
    blocks = [
        ProfiledBlock(
            *(f"{i}.{unit.kind}", unit, "float", MS[unit.kind], 100, 1000, 100.0, 10.0),
            "compute" if unit.kind == "mlp" else "overhead",
            1,
        )
        for i, unit in enumerate(units)
    ]
    kinds = {"mlp": ("Gemm", "linear"), "mixer": ("Softmax", "softmax")}
    kernels = [
        TimedKernel(*kinds.get(unit.kind, ("Add", "elementwise")), i, MS[unit.kind])
        for i, unit in enumerate(units)
    ]
    total = sum(block.ms for block in blocks)
    return Profile(
        device=Device.load("cpu-1t"),
        version="1.0",
        latency_ms=total,
        accounted=1.0,
        slowed=1.0,
        classes={"linear": 1.0, "softmax": 0.4, "elementwise": 0.2, "call": 0.0},
        kernels=kernels,
        blocks=blocks,
        tensors=[Tensor("attention map", 1, "Softmax", (1, 2, 16, 16), 2048)] * 2,
        peak=Peaks(3_000_000, 2_000_000, 1_000_000),
        machine=MachinePeaks({"float": 100.0}, {1000: 10.0}),
        energy_mj=None,
    )


def test_the_blocks_that_take_most_together_come_first(profile: Profile) -> None:
    text = "\n".join(profile_lines("x", profile))
    assert "Change first: the 2 blocks like 2.mlp (mlp), 1 ms, 62% of the time in blocks" in text
    assert "; 100% linear." in text and "\n  compute-bound: multiplying takes more" in text
    assert "`vitpareto devices cpu-1t`" in text
    assert "attention map of 1.mixer and 1 more: 1 x 2 x 16 x 16" in text
    assert "need 3 MB if each" in text and "and 1 MB in the best order" in text
    assert "rough" not in text and "energy: not known" in text


def test_what_helps_is_what_the_block_has_not_yet(profile: Profile) -> None:
    """Only MLPs have hidden units, only attention has heads, and int8 is no news where it is."""

    def told(kind: str, recipe: str) -> str:
        blocks = [
            replace(b, recipe=recipe, ms=9.0 if b.block.kind == kind else 0.1, bound="compute")
            for b in profile.blocks
        ]
        lines = profile_lines("x", replace(profile, blocks=blocks))
        return next(line for line in lines if line.startswith("  What helps: "))

    for kind, word in {"mlp": "hidden units", "mixer": "heads", "stem": "smaller images"}.items():
        assert word in told(kind, "float") and "int8" in told(kind, "stored8")
        assert word in told(kind, "dynamic8") and "int8" not in told(kind, "static4")
    assert "heads" not in told("stem", "float") and "hidden" not in told("stem", "float")


def test_what_is_rough_says_so(profile: Profile) -> None:
    slow = "\n".join(profile_lines("x", replace(profile, slowed=1.3)))
    assert "rough, is the machine busy? Kernels that were timed one by one took 1.30 times" in slow
    hidden = "\n".join(profile_lines("x", replace(profile, accounted=0.8, energy_mj=1.25)))
    assert "Less than 95% of the latency is seen" in hidden and "energy: 1.25 mJ" in hidden
