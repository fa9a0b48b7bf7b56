"""Cost models at the command line: shown, moved, imported, exported, and asked of files."""

import json
from pathlib import Path

import pytest
import torch

from vitpareto.cost_models import CostModel, LatencyTable
from vitpareto.cost_models.foreign.tables import READERS
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.predict.energy import EnergyModel
from vitpareto.cost_models.tables.latency_table import Row
from vitpareto.cost_models.units.unit import parse_unit
from vitpareto.search.cli.commands import main
from vitpareto.search.cli.cost_text import figures
from vitpareto.search.cli.costs import import_table
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.networks import Network

from ...cost_models.conftest import recipes, table
from ..conftest import invoke

__all__ = ["recipes", "table"]


@pytest.fixture(scope="module")
def model_file(
    table: LatencyTable, recipes: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model of a law, with energy, and its table beside it."""
    path = tmp_path_factory.mktemp("costs") / "model.json"
    model = CostModel.fit(table, recipes)
    model.energy = EnergyModel(2.0, 0.1, 0.05, 8)
    model.save(path)
    LatencyTable(table.identity, table.of_kind("unit")).save(path.with_suffix(".csv"))
    return path


def printed(*words: str | Path):
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.onnx
def test_predict_candidates_and_files_together(
    model_file: Path, space: SearchSpace, tmp_path: Path
) -> None:
    several, one = tmp_path / "several.json", tmp_path / "one.json"
    several.write_text(invoke("space", "sample", "digits", "-n", "2", "--json").stdout)
    candidate = Candidate.uncompressed(space.smallest().architecture)
    one.write_text(candidate.to_json())
    a = candidate.architecture
    file, strange = tmp_path / "x.onnx", tmp_path / "cnn.ONNX"
    shape = (1, a.in_chans, a.input_size, a.input_size)
    file.write_bytes(to_onnx(Network(a).eval(), shape).SerializeToString())
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten()).eval()
    strange.write_bytes(to_onnx(layers, shape).SerializeToString())
    rows = printed("predict", model_file, several, one, file, strange)
    keys = [row["key"] for row in rows]
    assert len(keys) == 5 and keys[2:] == [candidate.key, str(file), str(strange)]
    assert all(row["low_ms"] < row["latency_ms"] < row["high_ms"] for row in rows)
    for name in ("latency_ms", "low_ms", "high_ms", "energy_mj", "peak_memory_mb"):
        assert rows[3][name] == pytest.approx(rows[2][name], rel=1e-3)
    assert rows[3]["coverage"] == 1 and rows[3]["size_mb"] == file.stat().st_size / 1e6
    assert rows[4]["coverage"] < 0.5 and not rows[4]["inside"]
    assert rows[4]["peak_memory_mb"] is None and rows[4]["energy_mj"] is None
    *_, last, why = invoke("predict", model_file, several, one, file, strange).stdout.splitlines()
    assert "100% outside of what was measured" in last and last.split()[5] == "-"
    assert why == "  100%  Conv: no sub-block that was measured"


def test_show(model_file: Path, space_file: Path, table: LatencyTable) -> None:
    found = printed("costs", "show", model_file, "--blocks", space_file)
    model = CostModel.load(model_file)
    assert found["device"] == model.identity and found["groups"] == model.groups
    assert sum(found["groups"].values()) == len({row.key for row in table.of_kind("unit")})
    total = sum(row["latency_ms"] for row in found["blocks"]) + found["rest_ms"]
    largest = SearchSpace.from_yaml(space_file).largest()
    assert total == pytest.approx(float(model.predict([largest]).latency_ms[0]))
    assert all(r["energy_low_mj"] < r["energy_mj"] < r["energy_high_mj"] for r in found["blocks"])
    text = invoke("costs", "show", model_file, "--blocks", space_file).stdout
    assert "not validated on fresh networks" in text and "energy: 2 W above idle" in text
    assert "beside them" in text
    assert all(
        "/" not in line and "@" not in line
        for line in text.partition("\nmeasured")[2].splitlines()[1:3]
    )
    assert (
        "outside of what was measured"
        in invoke("costs", "show", model_file, "--blocks", "deit_tiny").stdout
    )


def test_figures_say_what_is_percent() -> None:
    facts = {"mape": 2.51234, "spearman": 0.9, "within_5": 60, "networks_fresh": 5}
    values = [line.split()[1] for line in figures(facts)]
    assert values == ["2.512%", "0.9", "60%", "5"]


def test_transfer(model_file: Path, space_file: Path, tmp_path: Path, table: LatencyTable) -> None:
    """What --choose names is measured on a device that is three times slower."""
    where = ("--space", space_file)
    keys = printed("costs", "transfer", model_file, *where, "--choose", "9")
    header = LatencyTable({**table.identity, "processor": "new"})
    header.save(tmp_path / "few.csv")
    alone = CostModel.load(model_file)
    blocks = [parse_unit(key) for key in keys]
    ms = alone.parts_of([(unit.block, unit.recipe) for unit in blocks])["ms"]
    rows = [Row("unit", key, 3 * float(t), 0.0, 0.0, 9) for key, t in zip(keys, ms, strict=True)]
    header.append(rows, tmp_path / "few.csv")
    out = tmp_path / "new.json"
    words = ("costs", "transfer", model_file, tmp_path / "few.csv", *where)
    assert printed(*words, "--out", out)["sub_blocks"] == len(keys) == 9
    new, candidates = CostModel.load(out), SearchSpace.from_yaml(space_file).sample(20, 5)
    assert new.identity["processor"] == "new"
    wanted = 3 * alone.predict(candidates).latency_ms
    assert new.predict(candidates).latency_ms == pytest.approx(wanted, rel=0.05)
    assert "not validated" in invoke("costs", "show", out).stdout


def test_import_and_transfer_of_a_phone(tmp_path: Path) -> None:
    shapes = [(width, n) for width in range(32, 96, 8) for n in (2, 3, 4)]
    ms = {f"transffn_14_{w}_{n}_hard_swish_ln": 1e-4 * w * n + 0.1 for w, n in shapes}
    rows = [f"{phone},{key},{speed * value}" for phone, speed in (("a", 1), ("b", 2))
            for key, value in ms.items()]  # fmt: skip
    (tmp_path / "lut.csv").write_text("\n".join(["device,key,latency_ms", *rows]) + "\n")
    words = ("costs", "import", tmp_path / "lut.csv", "--format", "nnmeter")
    found = printed(*words, "--out", tmp_path / "lut.json")
    assert found["rows"] == len(ms) and set(found["devices"]) == {"a", "b"}
    few = [f"{key},{5 * value}" for key, value in list(ms.items())[::4]]
    (tmp_path / "c.csv").write_text("\n".join(["key,latency_ms", *few]) + "\n")
    words = ("costs", "transfer", tmp_path / "lut.json", tmp_path / "c.csv")
    done = printed(*words, "--out", tmp_path / "c.json")
    assert done["device"] == "c" and done["left_out_error"] < 1
    new = json.loads((tmp_path / "c.json").read_text())["devices"]["c"]["latency_ms"]
    assert new == pytest.approx([5 * value for value in ms.values()], rel=0.01)


def test_export(model_file: Path, space_file: Path, tmp_path: Path, table: LatencyTable) -> None:
    out, of_space = tmp_path / "out.json", ("--space", space_file)
    units = list(table.of_kind("unit"))
    printed("costs", "export", model_file.with_suffix(".csv"), "--format", "nnmeter", "--out", out)
    flat = json.loads(out.read_text())
    assert flat == {row.key: pytest.approx(row.median_ms, rel=1e-4) for row in units}
    again = invoke("costs", "export", model_file, "--format", "ofa", "--out", out, *of_space)
    assert str(again.exception) == f"{out}: exists already, nothing was written"
    assert json.loads(out.read_text()) == flat
    for form in ("nnmeter", "ofa", "csv"):
        out = tmp_path / form
        found = printed("costs", "export", model_file, "--format", form, "--out", out, *of_space)
        assert found["entries"] > 5
        text = out.read_text()
        entries = text.splitlines()[1:] if form == "csv" else json.loads(text)
        assert len(entries) == found["entries"]
    out = tmp_path / "vectors"
    words = ("costs", "export", model_file, "--format", "vectors", "--out", out, *of_space)
    assert printed(*words, "-n", "3")["entries"] == 3
    assert len(json.loads(out.read_text())["vectors"]) == 3
    out = tmp_path / "all of them"
    words = ("costs", "export", model_file, "--format", "vectors", "--out", out, *of_space)
    entries = printed(*words, "-n", "100000")["entries"]
    assert entries == len(json.loads(out.read_text())["vectors"]) < 100000


BAD = [
    ("costs show nothing.json", "nothing.json: cannot be read: No such file or directory"),
    ("costs show t.csv", "t.csv: not JSON"),
    ("costs import t.csv --format hat --out o.json", "t.csv: needs the column 'encoder_embed_dim'"),
    ("costs import t.csv --format nnmetr --out o.json", "is not one of 'nnmeter', 'hat', 'matrix'"),
    ("costs transfer MODEL t.csv --out o.json", "--space is needed"),
    ("costs transfer MODEL --space digits", "MEASURED and --out are needed, or --choose"),
    ("costs transfer MODEL t.csv --space digits --out o.json", "not a table of `vitpareto calib"),
    ("costs transfer MODEL bundle --space digits --out o.json", "run `python run.py` there first"),
    ("costs transfer MODEL t.csv --space digit --out o.json", "Did you mean 'digits'"),
    ("costs export MODEL --format csv --out o.json", "--space is needed"),
    ("costs export t.csv --format vectors --out o.json", "t.csv: not JSON"),
    ("predict MODEL none.onnx", "none.onnx: not an ONNX file that can be read: No such file"),
    ("predict MODEL", "Missing argument"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words for words, _ in BAD])
def test_one_line_for_each_mistake(
    words: str,
    message: str,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("a,b\n1,2\n")
    Path("bundle").mkdir()
    monkeypatch.setattr("sys.argv", ["vitpareto", *words.replace("MODEL", str(model_file)).split()])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as caught:
        main()
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ") and message in line
    assert caught.value.code == 2 and not Path("o.json").exists()


def test_formats_are_those_that_can_be_read() -> None:
    (option,) = [p for p in import_table.params if p.name == "form"]
    assert list(option.type.choices) == list(READERS)
    for verb in ("show", "import", "transfer", "export"):
        assert "vitpareto costs" in invoke("costs", verb, "--help").stdout
