"""Processors whose times differ are known by different names."""

import pytest

from vitpareto.cost_models.standalone.runner import machine, told_of_cpu

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model\t\t: 1
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse2 avx2 avx512f

processor\t: 1
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse2 avx2 avx512f
"""
BOARD = "Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nModel\t: Pi 4\n"


def server(*parts: str, flags: str = "fp asimddp i8mm") -> str:
    """Of ARM's cores, which have no model name."""
    return "\n".join(
        f"processor\t: {i}\nFeatures\t: {flags}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 1\n"
        for i, part in enumerate(parts)
    )


@pytest.mark.parametrize(
    ("cpuinfo", "name", "isa"),
    [
        (X86, "AMD EPYC 7763 64-Core Processor", "avx2 avx512f"),
        (BOARD, "Pi 4", ""),
        (server("0xd40", "0xd40"), "ARM 0x41/0xd40", "asimddp i8mm"),
        (server("0xd4f", flags="i8mm sve sve2"), "ARM 0x41/0xd4f", "i8mm sve2"),
        (server("0xd05", "0xd05", "0xd0a"), "ARM 0x41/0xd05, 0x41/0xd0a", "asimddp i8mm"),
        ("", "", ""),
    ],
)
def test_a_processor_is_known_by_its_name_or_its_cores(cpuinfo: str, name: str, isa: str) -> None:
    assert told_of_cpu(cpuinfo) == (name, isa)


def test_this_machine_has_a_name() -> None:
    assert machine()["processor"] and machine()["cores"]
