"""Tables of others: what is wrong with them is said, and what follows from them holds."""

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from vitpareto.cost_models.foreign.imported import fit_table, load_imported
from vitpareto.cost_models.foreign.tables import READERS, read_measured, read_table
from vitpareto.cost_models.foreign.transferred import transfer_table
from vitpareto.cost_models.predict.regressor import Regressor
from vitpareto.spaces.errors import CostError

SHARED = ("embed_dim", "layer_num", "ffn_embed_dim_avg", "self_attention_heads_avg")
HAT = [
    *(f"{part}_{name}" for part in ("encoder", "decoder") for name in SHARED),
    *("decoder_ende_attention_heads_avg", "decoder_arbitrary_ende_attn_avg"),
    *(f"latency_{what}_{part}" for what in ("mean", "std") for part in ("encoder", "decoder")),
]
PHONES = {"slow": (4.0, 0.3), "fast": (1.0, 0.1), "other": (2.0, 0.25)}


def block_table(path: Path, repeated: bool = False) -> Path:
    """MLPs and attention of three phones, whose law is known up to 1%."""
    rng = np.random.default_rng(0)
    mlps = product((7, 14, 28), (48, 64, 96, 128), (2, 3, 4, 5))
    mixers = product((7, 14), (48, 64, 96, 128, 160), (1, 2, 3, 4))
    keys = [f"transffn_{hw}_{width}_{expand}_hard_swish_ln" for hw, width, expand in mlps]
    keys += [f"transattn_{hw}_{width}_hard_swish_{v}_ln" for hw, width, v in mixers]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device", "key", "latency_ms"])
        for phone, (matrix, constant) in PHONES.items():
            for key in keys:
                parts = key.split("_")
                work = int(parts[1]) ** 2 * int(parts[2]) ** 2 / 1e6
                factor = int(parts[3]) if key.startswith("transffn") else 2 + int(parts[-2])
                ms = constant + matrix * work * factor * np.exp(0.01 * rng.standard_normal())
                writer.writerow([phone, key, f"{ms:.6g}"])
                if repeated:
                    writer.writerow([phone, key, f"{1.4 * ms:.6g}"])
    return path


def hat_table(path: Path, step: float) -> Path:
    """Transformers in the order of measuring; half-way the machine becomes slower by a step."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HAT)
        for row in range(400):
            e, d, width = 6, rng.integers(1, 7), rng.choice([512, 640])
            ffn, heads = rng.choice([1024, 2048, 3072]), rng.choice([4, 8])
            ms = 3 * e * width * ffn / 1e6 + 5 * d * width * ffn / 1e6 + 2 * d
            ms *= np.exp(0.01 * rng.standard_normal()) * (1 + step * (row >= 200))
            shapes = [width, e, ffn, heads, width, d, ffn, heads, heads, 1]
            writer.writerow([*shapes, 0.2 * ms, 0.8 * ms, 0.01 * ms, 0.01 * ms])
    return path


def test_blocks_of_phones(tmp_path: Path) -> None:
    table = read_table(block_table(tmp_path / "lut.csv"), "nnmeter")
    found = fit_table(table)
    assert not found.findings and set(found.errors) == set(PHONES)
    for errors in found.errors.values():
        assert set(errors) == {"transffn", "transattn"} and max(errors.values()) < 4
    assert max(found.from_others.values()) < 5
    data = json.loads(json.dumps(found.to_dict()))
    for name, ms in table.ms.items():
        about = data["devices"][name]
        assert about["latency_ms"] == pytest.approx(ms.tolist(), rel=1e-5)
        again = Regressor.from_dict(about["predictors"]["transffn"])
        part = table.of_group("transffn")
        guess = again.predict(part.terms, part.numbers).ms
        assert np.abs(guess / part.ms[name] - 1).mean() < 0.04


def test_one_key_measured_twice_is_told(tmp_path: Path) -> None:
    found = fit_table(read_table(block_table(tmp_path / "lut.csv", True), "nnmeter"))
    assert {f.check for f in found.findings} == {"repeated"} and len(found.findings) == 3
    assert "88 keys differ by a factor of 1.40" in found.findings[0].detail


@pytest.mark.parametrize("step", [0.0, 0.3])
def test_a_drifting_table_says_so(step: float, tmp_path: Path) -> None:
    path = hat_table(tmp_path / "cpu.csv", step)
    found = fit_table(read_table(path, "hat"))
    assert [f.check for f in found.findings] == ["drift"] * bool(step)
    assert found.steps.get("cpu", 0.0) == pytest.approx(step, abs=0.03)
    assert found.errors["cpu"]["transformer"] < 3
    noise = found.facts()["devices"]["cpu"]["noise"]
    assert noise == pytest.approx(2**0.5, rel=0.3)


@pytest.mark.parametrize("value", ["0", "-1", "inf"])
def test_what_is_no_latency_is_told_and_nothing_is_learned_from_it(
    value: str, tmp_path: Path
) -> None:
    path = hat_table(tmp_path / "cpu.csv", 0.3)
    header, *rows = path.read_text().splitlines()
    rows[7] = ",".join([*rows[7].split(",")[:-4], value, value, "0.01", "0.01"])
    path.write_text("\n".join([header, *rows]) + "\n")
    found = fit_table(read_table(path, "hat"))
    assert [f.check for f in found.findings] == ["negative", "drift"]
    assert found.steps["cpu"] == pytest.approx(0.3, abs=0.03)
    assert found.errors["cpu"]["transformer"] < 3
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))["devices"]["cpu"]
    assert [i for i, ms in enumerate(told["latency_ms"]) if ms is None] == [7]
    assert told["noise"] == pytest.approx(2**0.5, rel=0.3)


def test_cells_that_a_line_ends_without_are_empty(tmp_path: Path) -> None:
    lines = ["flops,a,model", *(f"{i}e6,{i},m{i}" for i in range(1, 30)), "30e6,30"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    table = fit_table(read_table(tmp_path / "t.csv", "matrix")).table
    assert (table.keys[-2:], table.ms["a"][-1]) == (["m29", ""], 30.0)


def test_sums_given_out_as_measurements(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts, costs = rng.integers(0, 3, (200, 5)), rng.uniform(1, 2, (5, 3))
    added = [sum(costs[i, p] for i, p in enumerate(row)) for row in parts]
    lines = ["arch,sum,real", *(
        f"{'-'.join(map(str, row))},{ms!r},{ms * np.exp(0.05 * rng.standard_normal())!r}"
        for row, ms in zip(parts.tolist(), map(float, added), strict=True)
    )]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(lines).replace("np.float64(", "").replace(")", ""))
    found = fit_table(read_table(tmp_path / "t.csv", "matrix"))
    assert {(f.check, f.column) for f in found.findings} >= {("additive", "sum")}
    assert ("additive", "real") not in {(f.check, f.column) for f in found.findings}


def test_a_new_phone_from_few_measurements(tmp_path: Path) -> None:
    every = fit_table(read_table(block_table(tmp_path / "lut.csv"), "nnmeter")).to_dict()
    actual = dict(zip(every["keys"], every["devices"].pop("other")["latency_ms"], strict=True))
    (tmp_path / "lut.json").write_text(json.dumps(every))
    keys = list(actual)[::9]
    lines = ["key,latency_ms", *(f"{key},{actual[key]}" for key in keys)]
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n")
    data = load_imported(tmp_path / "lut.json")
    assert data is not None
    found = transfer_table(data, read_measured(tmp_path / "other.csv"), "other")
    ms = np.array(found["devices"]["other"]["latency_ms"])
    wanted = np.array([actual[key] for key in found["keys"]])
    assert np.abs(ms / wanted - 1).mean() < 0.04
    assert found["devices"]["other"]["measured"] == len(keys)
    with pytest.raises(CostError, match=r"need 5 measured keys or more of the table, got 1"):
        transfer_table(data, {keys[0]: 1.0}, "other")


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("text", ["", "a\n", "device,key,latency_ms\n", "model,x\na,fast\n",
                                  "device,key,latency_ms\np,transattn_x,1\n",
                                  "device,key,latency_ms\np,conv_1,quick\n"])  # fmt: skip
def test_what_is_no_table_is_refused(form: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CostError, match=r"t\.csv: ") as caught:
        fit_table(read_table(tmp_path / "t.csv", form))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "inf", "nan"])
def test_measured_latencies_are_numbers(value: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"key,latency_ms\na,{value}\n")
    with pytest.raises(CostError, match=r"line 2: latency_ms must be above 0, got"):
        read_measured(tmp_path / "m.csv")


def test_repeated_measurements_are_averaged_and_a_mark_of_spreadsheets_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "m.csv").write_text("key,latency_ms\na,1\nb,5\na,3\n", encoding="utf-8-sig")
    assert read_measured(tmp_path / "m.csv") == {"a": 2.0, "b": 5.0}


@pytest.mark.parametrize("form", READERS)
def test_a_row_of_too_many_values_is_refused(form: str, tmp_path: Path) -> None:
    heads = {"nnmeter": "device,key,latency_ms", "matrix": "model,phone"}
    head = heads.get(form, "encoder_embed_dim,latency_mean_decoder")
    (tmp_path / "t.csv").write_text(f"{head}\n1{',1' * head.count(',')}\n1,1,1,1\n")
    with pytest.raises(CostError, match=r"t\.csv: line 3: more values than columns$"):
        read_table(tmp_path / "t.csv", form)
