"""Tables: what is written is read, what is torn is dropped, what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models import Device, LatencyTable
from vitpareto.cost_models.foreign.table_checks import check_repeats, check_table
from vitpareto.cost_models.foreign.tables import read_hat, read_matrix, read_nnmeter_blocks
from vitpareto.cost_models.tables.anchors import ANCHORS, LARGE, Pace, coarseness, speed_words
from vitpareto.cost_models.tables.latency_table import Row, quietest
from vitpareto.spaces import ConfigError
from vitpareto.spaces.errors import CostError, MissingRuntimeError, RunError

IDENTITY = {"runtime": "onnxruntime", "threads": 1}


def rows(count: int = 5) -> list[Row]:
    return [
        Row("unit", f"mlp/mlp?n={i},x@float", 0.1 + i, 0.1, 0.2, 10, session="a")
        for i in range(count)
    ]


def test_round_trip_and_append(tmp_path: Path) -> None:
    path, table = tmp_path / "t.csv", LatencyTable(IDENTITY)
    table.append(rows()[:2], path)
    table.append(rows()[2:], path)
    again = LatencyTable.load(path)
    assert again.rows == rows() and again.identity == IDENTITY
    again.save(path)
    assert LatencyTable.load(path).rows == rows()


def test_options_may_be_called_anything(tmp_path: Path) -> None:
    """Folders of "transformations" say nothing of the format."""
    identity = IDENTITY | {"options": {"engine_cache": "/data/transformations"}, "version": "2"}
    LatencyTable(identity, rows()).save(tmp_path / "t.csv")
    assert LatencyTable.load(tmp_path / "t.csv").identity == identity


def test_a_kill_loses_only_the_line_it_cut(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    LatencyTable(IDENTITY).append(rows(), path)
    path.write_bytes(path.read_bytes()[:-9])
    assert LatencyTable.load(path).rows == rows()[:-1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("median_ms", "median", "needs the column 'median_ms'.*does not say its unit"),
        (",1.1,", ",-1.1,", "line 6: median_ms must be finite and not negative, got -1.1"),
        (",1.1,", ",inf,", "line 6: median_ms must be finite and not negative, got inf"),
        (",1.1,", ",nan,", "line 6: median_ms must be finite and not negative, got nan"),
        (",1.1,", ",0,", "line 6: median_ms must be above 0, got 0"),
        (",1.1,0.1,", ",1.1,-1,", "line 6: p10_ms must be finite and not negative, got -1"),
        (",1.1,", ",fast,", "line 6: could not convert"),
        ("n=1,x", "n=0,x", "is there twice in session 'a'"),
        ("peak_bytes", "peek_bytes", "unknown column 'peek_bytes'. Did you mean 'peak_bytes'"),
        ("unit,", "thing,", "kind 'thing' must be one of unit, model, fresh"),
        ("format 1", "format 7", "format must be 1, got '7': .* another release"),
        ('{"runtime": "onnxruntime", "threads": 1}', "[1]", "must hold a mapping, got"),
        ("# device", "# machine", "needs a line '# device"),
        ('"threads": 1', '"threads": 2', "fingerprint .* is not that of its device line"),
        (",a,0,,\n", ",a,0,\n", "1 values too few"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "t.csv"
    LatencyTable(IDENTITY).append(rows(), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(CostError, match=message) as caught:
        LatencyTable.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_constant_numbers_are_no_measurement(tmp_path: Path) -> None:
    same = [Row("unit", f"k{i}", 2.0, 0, 0, 1) for i in range(5)]
    LatencyTable(IDENTITY).append(same, tmp_path / "t.csv")
    with pytest.raises(CostError, match="median_ms is 2 in every row"):
        LatencyTable.load(tmp_path / "t.csv")


def test_devices_do_not_mix() -> None:
    other = LatencyTable(IDENTITY | {"threads": 2}, rows())
    with pytest.raises(CostError, match="threads is 1 in one and 2 in the other"):
        LatencyTable(IDENTITY, rows()).merged(other)
    assert len(other.merged(other)) == len(other)


def test_levels_are_comparable_between_sessions() -> None:
    slow = Row("unit", "a", 2.0, 0, 0, 1, anchor_ms=1.0, session="slow")
    fast = Row("unit", "a", 1.0, 0, 0, 1, anchor_ms=0.5, session="fast")
    table = LatencyTable(IDENTITY, [slow, fast])
    left, right = table.levels([slow, fast])
    assert left == right


def test_a_busy_neighbor_slows_small_kernels_more() -> None:
    """Large kernels at 0.9 and small ones at 0.6 of their speed: each row by what its own are."""
    usual = [Row("unit", k, 1.0, 0, 0, 1, anchor_ms=0.9, small_anchor_ms=0.012, session="1")
             for k in "abc"]  # fmt: skip
    slow = [
        Row("unit", k, ms, 0, 0, 1, anchor_ms=1.0, small_anchor_ms=0.02, coarse=coarse, session="2")
        for k, coarse, ms in (("a", 1.0, 1 / 0.9), ("b", 0.0, 1 / 0.6), ("c", 0.5, 0.54**-0.5))
    ]
    table = LatencyTable(IDENTITY, [*usual, *usual, *slow])
    assert table.levels(slow) == pytest.approx([1.0, 1.0, 1.0])
    assert slow[0].speed(Pace()) == slow[1].speed(Pace(1.0, 0.0)) == 1.0  # nothing is known


def test_the_speed_is_said_where_it_is_another() -> None:
    assert speed_words(0.614) == "at 0.61 of the calibrated speed"
    assert speed_words(1.5) == "at 1.50 of the calibrated speed"
    assert speed_words(0.985) == speed_words(1.0) == speed_words(1.015) == ""


def test_the_quietest_measurement_counts() -> None:
    def row(key: str, way: str, high: float) -> Row:
        return Row("model", key, high, 1.0, high, 8, way=way, session=f"{high}")

    found = quietest([row("a", "in turn", 1.3), row("a", "in turn", 1.1), row("b", "in turn", 1.2),
                      row("a", "one by one", 1.4), row("a", "in turn", 1.2)])  # fmt: skip
    assert {(r.key, r.way): r.p90_ms for r in found} == {
        ("a", "in turn"): 1.1, ("b", "in turn"): 1.2, ("a", "one by one"): 1.4,
    }  # fmt: skip


def test_coarse_is_between_the_anchors() -> None:
    anchors = [0.04] * len(LARGE) + [0.001] * (len(ANCHORS) - len(LARGE))
    assert coarseness(0.04, anchors) == coarseness(0.5, anchors) == 1
    assert coarseness(0.001, anchors) == coarseness(0.0001, anchors) == 0
    assert coarseness(0.04**0.5 * 0.001**0.5, anchors) == pytest.approx(0.5)
    assert coarseness(0.01, [0.02] * len(ANCHORS)) == 1  # launching is all that it does


@pytest.mark.parametrize("name", ["cpu-1t", "cpu-2t", "cpu-openvino", "cuda", "tensorrt"])
def test_device_presets(name: str) -> None:
    device = Device.load(name)
    assert device.name == name and "float" in device.recipes
    assert Device.from_dict(device.to_dict()) == device
    identity = device.identity()
    assert identity["processor"] and identity["threads"] == device.threads


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime": "onnxruntme"}, "runtime: no such value 'onnxruntme'. Did you mean 'onnxru"),
        ({"thread": 1}, "unknown key 'thread'. Did you mean 'threads'"),
        ({"threads": 0}, "threads: need a whole number from 1 to 1024, got 0"),
        ({"recipes": ["int9"]}, "recipes: no such value 'int9'"),
        ({"recipes": []}, "recipes: need a list"),
        ({"affinity": [-1]}, "affinity: need core numbers"),
        ({"provider": None}, "provider: need a name, got None"),
        ({"compiled": 1}, "compiled: need true or false"),
    ],
)
def test_bad_devices(change: dict, message: str) -> None:
    good = Device.load("cpu-1t").to_dict()
    with pytest.raises(ConfigError, match=message):
        Device.from_dict(good | change)


def test_a_missing_runtime_says_what_installs_it(tmp_path: Path) -> None:
    from vitpareto.cost_models.runtimes import open_runtime

    with pytest.raises(MissingRuntimeError, match=r"pip install 'vitpareto\[cuda\]'"):
        open_runtime(Device.load("cuda"))


def test_importers(tmp_path: Path) -> None:
    flat = tmp_path / "phone.json"
    flat.write_text('{"transattn_16_48_hard_swish_3_ln": 4.3, "conv_32_48_48_6_1_relu_3_se": 5.2}')
    table = read_nnmeter_blocks(flat)
    assert table.groups == ["transattn", "conv"] and table.ms["phone"].tolist() == [4.3, 5.2]
    assert all(value >= 0 for terms in table.terms for value in terms.values())
    wide = tmp_path / "w.csv"
    wide.write_text("model,flops,a|1|float|mean,a|1|float|std\nx,1000000,2000,20\ny,1,4000,40\n")
    read = read_matrix(wide)
    assert read.ms["a|1|float"].tolist() == [2.0, 4.0]
    assert read.spread["a|1|float"].tolist() == pytest.approx([0.01, 0.01])
    with pytest.raises(CostError, match="needs the column 'encoder_embed_dim'"):
        read_hat(wide)
    with pytest.raises(CostError, match="cannot be read"):
        read_hat(tmp_path / "none.csv")


@pytest.mark.parametrize("content", [b"model,a\nx,1.5\n", b"\x1f\x8b\x08\x00", b""])
def test_a_table_of_another_project_is_told_from_ours(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lut.csv").write_bytes(content)
    with pytest.raises(CostError, match=r"not a table of `vitpareto calibrate`.*costs import"):
        LatencyTable.load(tmp_path / "lut.csv")


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written: No such file"):
        LatencyTable(IDENTITY).append(rows(), tmp_path / "none" / "t.csv")


def test_suspicious_tables_are_flagged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = rng.integers(0, 2, (300, 6)).astype(float)
    added = 3 + parts @ rng.uniform(1, 2, 6)
    real = added * np.exp(0.02 * rng.standard_normal(300))
    lines = ["arch,real,twin,whole,added,broken"]
    lines += [
        f"m{i},{r!r},{r * 1.002!r},{round(r * 3)},{a!r},{-1 if i == 5 else r * 7!r}"
        for i, (r, a) in enumerate(zip(real.tolist(), added.tolist(), strict=True))
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    found = check_table(read_matrix(tmp_path / "t.csv"), parts)
    flagged = {(finding.check, finding.column) for finding in found}
    assert flagged == {
        *{("duplicate", "real, twin"), ("rounded", "whole")},
        *{("additive", "added"), ("negative", "broken")},
    }
    assert check_repeats(["a", "a", "b"], [1.0, 1.5, 1.0])[0].check == "repeated"
    assert not check_repeats(["a", "a"], [1.0, 1.01])
