"""Lines that `vitpareto profile` prints, for people who do not know the code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from ...cost_models.profile.half_range import HIGHEST, HalfRange
from ...cost_models.profile.profile import MB, Profile, ProfiledBlock
from ...cost_models.profile.roofline import COMPUTE, MEMORY, OVERHEAD
from ...cost_models.profile.tensors import BLOCK, EMBEDDING, MAP, Tensor
from ...cost_models.units.precision_recipes import RECIPES
from ..counted import counted

TOP = 10
ROUGH, SEEN = 1.1, 0.95  # factor by which kernels were slowed, share that is to be seen of them
# What is multiplied less by, in each kind of sub-block. Larger patches save a stem nothing: there
# are fewer of them, and each has more pixels.
FEWER = {
    "stem": "smaller images, a narrower network",
    "mixer": "fewer heads or tokens, a cheaper mixer, a lower rank",
    "mlp": "fewer hidden units or tokens, a lower rank",
    "downsample": "a narrower stage",
    "head": "a narrower network",
}
INTEGERS = "or int8 where its kernels are faster, which `vitpareto devices {device}` measures"
REMEDIES = {
    MEMORY: "fewer tokens, larger patches, or weights of fewer bits",
    OVERHEAD: "fewer and larger operations: a mixer of fewer kernels, fewer and wider blocks",
}
MEANINGS = {
    COMPUTE: "multiplying takes more than half of it at the fastest that this machine does",
    MEMORY: "moving bytes takes more than half of it at the fastest that this machine does",
    OVERHEAD: "multiplying and moving bytes as fast as this machine does would take less than half",
}


def profile_lines(name: str, profile: Profile) -> list[str]:
    """All of a profile."""
    device, blocks = profile.device, [b.name for b in profile.blocks]
    threads = counted(device.threads, "thread")
    lines = [
        f"{name} on {device.name} ({device.runtime} {profile.version}, {threads}, batch "
        f"{device.batch}): {profile.latency_ms:.4g} ms a run, {profile.accounted:.0%} of it seen "
        f"in {counted(len(profile.kernels), 'kernel')}",
        _machine(profile),
        *_rough(profile),
        "",
        *_first(profile),
        "",
        "time by kind of operator",
    ]
    total = sum(profile.classes.values())
    lines += [
        f"  {kind:20} {ms:9.4f} ms  {ms / total:5.1%}" for kind, ms in profile.classes.items()
    ]
    lines += ["", *_block_lines(profile), "", "the kernels that take longest"]
    for kernel in sorted(profile.kernels, key=lambda k: -k.ms)[:TOP]:
        lines.append(
            f"  {kernel.ms:9.4f} ms  {kernel.operator} ({kernel.kind}) of {blocks[kernel.place]}"
        )
    lines += ["", "activations, the largest and those that a network is known by"]
    lines += _tensor_lines(profile)
    return [*lines, "", _memory(profile), _energy(profile)]


def _rough(profile: Profile) -> list[str]:
    """A line where figures are rough."""
    if profile.slowed > ROUGH:
        more = f"took {profile.slowed:.2f} times what the model takes, which is divided out"
        return [f"rough, is the machine busy? Kernels that were timed one by one {more}"]
    if profile.accounted < SEEN:
        return [
            f"rough, is the machine busy? Less than {SEEN:.0%} of the latency is seen in kernels"
        ]
    return []


def _machine(profile: Profile) -> str:
    products = ", ".join(f"{rate:.0f} ({name})" for name, rate in profile.machine.gflops.items())
    streams = profile.machine.gb_per_s.items()
    moved = ", ".join(f"{rate:.0f} over {size / MB:.2g} MB" for size, rate in streams)
    return (
        f"this machine meanwhile: {products} GFLOP/s in a product of matrices, {moved} at once in "
        "GB/s"
    )


def _first(profile: Profile) -> list[str]:
    """The blocks to change first: alike ones that take most together, and what bounds them."""
    groups = _alike(profile.blocks)
    largest = max(groups, key=_ms)
    ms, of = _ms(largest), sum(block.ms for block in profile.blocks) or 1.0
    names = f"{largest[0].name} ({_kind(largest[0])})"
    if len(largest) > 1:
        names = f"the {len(largest)} blocks like {names}"
    bound = max((COMPUTE, MEMORY, OVERHEAD), key=[block.bound for block in largest].count)
    places = {i for i, block in enumerate(profile.blocks) if block in largest}
    inside: dict[str, float] = {}
    for kernel in profile.kernels:
        if kernel.place in places:
            inside[kernel.kind] = inside.get(kernel.kind, 0.0) + kernel.ms
    shares = sorted(inside.items(), key=lambda item: -item[1])[:3]
    words = ", ".join(f"{share / (ms or 1.0):.0%} {kind}" for kind, share in shares)
    return [
        f"Change first: {names}, {ms:.4g} ms, {ms / of:.0%} of the time in blocks; {words}.",
        f"  {bound}-bound: {MEANINGS[bound]}.",
        f"  What helps: {_remedy(largest[0], bound, profile.device.name)}.",
    ]


def _remedy(block: ProfiledBlock, bound: str, device: str) -> str:
    """What makes a block faster, of which it has nothing yet."""
    if bound != COMPUTE:
        return REMEDIES[bound]
    fewer = FEWER[block.block.kind]
    in_floats = RECIPES[block.recipe].activations == "float"
    return f"{fewer}, {INTEGERS.format(device=device)}" if in_floats else fewer


def _alike(blocks: Sequence[ProfiledBlock]) -> list[list[ProfiledBlock]]:
    """Blocks that compute the same, together."""

    def key(block: ProfiledBlock) -> str:
        return f"{block.block.key}@{block.recipe}"

    return [list(group) for _, group in groupby(sorted(blocks, key=key), key)]


def _ms(blocks: Iterable[ProfiledBlock]) -> float:
    return sum(block.ms for block in blocks)


def _kind(block: ProfiledBlock) -> str:
    kind, variant = block.block.kind, block.block.variant
    return kind if variant == kind else f"{variant} {kind}"


def _block_lines(profile: Profile) -> list[str]:
    """A line for each sub-block; rates are beside the fastest of this machine."""
    width = max(len(block.name) for block in profile.blocks)
    lines = [
        "sub-blocks in order (of peak: beside the fastest that this machine was seen to do)",
        f"  {'':{width}} {'ms':>9} {'share':>6} {'params':>10} {'million MACs':>12} "
        f"{'MB moved':>9} {'FLOP/byte':>9} {'GFLOP/s':>8} {'of peak':>7} {'GB/s':>7} {'of peak':>7}"
        "  bound by",
    ]
    total = _ms(profile.blocks) or 1.0
    for b in profile.blocks:
        lines.append(
            f"  {b.name:{width}} {b.ms:9.4f} {b.ms / total:6.1%} {b.block.params:10,} "
            f"{b.block.macs / 1e6:12.3f} {b.moved_bytes / MB:9.4f} {b.intensity:9.2f} "
            f"{b.gflops:8.1f} {b.gflops / b.peak_gflops:7.0%} {b.gb_per_s:7.2f} "
            f"{b.gb_per_s / b.peak_gb_per_s:7.0%}  {b.bound}: {_kind(b)}"
            + ("" if b.recipe == "float" else f", {b.recipe}")
        )
    return lines


def _tensor_lines(profile: Profile) -> list[str]:
    """Activations that are the same kind of thing and of one shape in one line."""
    alike: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}
    for tensor in profile.tensors:
        alike.setdefault((tensor.name, tensor.shape), []).append(tensor)
    ordered = sorted(alike.values(), key=lambda tensors: -tensors[0].size)
    shown = [t for i, t in enumerate(ordered) if i < TOP or t[0].name in (EMBEDDING, BLOCK, MAP)]
    lines: list[str] = []
    for first, *others in shown:
        of = "" if first.place is None else f" of {profile.blocks[first.place].name}"
        more = f" and {len(others)} more" if others else ""
        shape = " x ".join(map(str, first.shape))
        lines.append(f"  {first.size / MB:9.4f} MB  {first.name}{of}{more}: {shape}")
    return lines


def _memory(profile: Profile) -> str:
    peak = profile.peak
    return (
        f"activations need {peak.naive / MB:.4g} MB if each has memory of its own, "
        f"{peak.reused / MB:.4g} MB if those share it that do not live at the same time, and "
        f"{peak.reordered / MB:.4g} MB in the best order of kernels"
    )


def _energy(profile: Profile) -> str:
    if profile.energy_mj is None:
        return "energy: not known, no counter tells (`vitpareto devices`)"
    return f"energy: {profile.energy_mj:.3g} mJ a run above idle"


def half_lines(found: Sequence[HalfRange]) -> list[str]:
    """What leaves float16, or how far everything is from that."""
    over = [r for r in found if r.overflows]
    lines = [f"in float16, which ends at {HIGHEST:.0f}, as seen on images of validation:"]
    lines += [f"  OVERFLOW  {r.sub_block}  {r.name}: up to {r.highest:.4g}" for r in over]
    if not over and found:
        top = max(found, key=lambda r: r.highest)
        lines.append(
            f"  nothing overflows; the largest is {top.highest:.4g}, {top.name} of {top.sub_block}"
        )
    lost = sorted((r for r in found if r.lost > 0), key=lambda r: -r.lost)
    lines += [
        f"  {r.lost:.2%} of what is not 0 becomes 0 in {r.sub_block}  {r.name}" for r in lost[:TOP]
    ]
    return lines if lost else [*lines, "  nothing becomes 0"]
