from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitpareto.search.compress.packing import load_packed, pack, packed_bits, save_packed, unpack
from vitpareto.search.compress.quantize import Grid, quantize_weight
from vitpareto.search.compress.sparsity import sparsify
from vitpareto.spaces.errors import RunError

INDICES = ("bitmap", "gaps")


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 8).flatmap(
        lambda bits: st.tuples(
            st.just(bits),
            st.lists(
                st.one_of(st.just(0), st.integers(1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)),
                max_size=300,
            ),
        )
    ),
    st.sampled_from(INDICES),
    st.integers(0, 60),
)
def test_what_is_packed_can_be_unpacked(
    case: tuple[int, list[int]], index: str, zeros: int
) -> None:
    bits, values = case
    given_ = np.array([*values, *[0] * zeros, *values[:3]], np.int8)
    raw = pack(given_, bits, index)  # type: ignore[arg-type]
    assert unpack(raw, len(given_), bits, index).tolist() == given_.tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_files_hold_what_was_rounded(tmp_path: Path, index: str, bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "fc": sparsify(torch.randn(64, 128, generator=generator), 0.9),
        "conv": sparsify(torch.randn(16, 3, 4, 4, generator=generator), 0.5),
        "zeros": torch.zeros(4, 4),
    }
    size = save_packed(tmp_path / "weights", weights, bits, index)  # type: ignore[arg-type]
    assert size == (tmp_path / "weights").stat().st_size
    found = load_packed(tmp_path / "weights")
    assert list(found) == list(weights)
    for name, weight in weights.items():
        assert found[name].allclose(quantize_weight(weight, Grid(bits)), atol=1e-6)


@pytest.mark.parametrize("index", INDICES)
def test_ninety_percent_zeros_at_4_bits(tmp_path: Path, index: str) -> None:
    """Bytes really written, positions included, against the same weights in float32 and int8."""
    weight = sparsify(torch.randn(512, 512, generator=torch.Generator().manual_seed(0)), 0.9)
    size = save_packed(tmp_path / "weights", {"fc": weight}, 4, index)  # type: ignore[arg-type]
    bits = 8 * size / weight.numel()
    # Scales take 32 bits a row of 512; of gaps that follow a geometric law 18.5% need a filler.
    overhead = 32 / 512 + 0.01 + (0.25 if index == "gaps" else 0)
    expected = packed_bits(0.9, 4, index)  # type: ignore[arg-type]
    assert expected < bits < expected + overhead
    assert 1 - bits / 32 > 0.95
    assert 1 - bits / 8 > 0.8


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    save_packed(path, {"fc": torch.eye(8)}, 4, "gaps")
    content = path.read_bytes()
    for bad, why in [
        (b"PK" + content, "no packed weights"),
        (content[:-3], "damaged"),
        (content[:40], "damaged"),
        (content.replace(b'"bits"', b'"bats"'), "damaged"),
    ]:
        path.write_bytes(bad)
        with pytest.raises(RunError, match=why):
            load_packed(path)
    with pytest.raises(RunError, match="cannot be read"):
        load_packed(tmp_path / "absent")
