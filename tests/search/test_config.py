from pathlib import Path

import pytest
import yaml

from vitpareto.search.config import PRESETS, load_config
from vitpareto.spaces import ConfigError

BAD = [
    ("search.trails=3", "unknown key 'search.trails'. Did you mean 'trials'?"),
    ("serch.trials=3", "unknown key 'serch'. Did you mean 'search'?"),
    ("search.trials=many", "search.trials: .*valid integer.*got 'many'"),
    ("search.trials=0", "search.trials: .*greater than 0, got 0"),
    ("search.seed=-1", "search.seed: .*greater than or equal to 0, got -1"),
    ("data.seed=4294967296", "data.seed: .*less than 4294967296, got 4294967296"),
    ("search.sampler=nsga4", "search.sampler: no such sampler 'nsga4'. Did you mean 'nsga3'?"),
    ("search.objectives=[latency]", "no such metric 'latency'. Did you mean 'latency_ms'?"),
    ("search.objectives=[accuracy, accuracy]", "given twice"),
    ("search.objectives=[]", "at least one objective"),
    ("search.limits={latency_ms: -1}", "limit of latency_ms must be above 0, got -1"),
    ("search.limits.accuracy=95", "limit of accuracy is a share: 0.95, not 95"),
    ("search.limits.accuracy=950", "limit of accuracy is a share of at most 1, got 950"),
    ("data.search=17", "data.search: is a share: 0.17, not 17"),
    ("data.broken=5", "data.broken: is a share: 0.05, not 5"),
    ("supernet.ema=99.9", "supernet.ema: is a share: 0.999, not 99.9"),
    ("supernet.curriculum=200", "supernet.curriculum: is a share of at most 1, got 200"),
    ("finish.ramp=50", "finish.ramp: is a share: 0.5, not 50"),
    ("search.rungs=[25]", r"search.rungs.0: is a share: 0.25, not 25"),
    ("search=3", "search: .*got 3"),
    ("search.trials", "need key=value"),
    ("space.name.deep=3", "'space' holds no keys"),
    ("search.trials=[", "--set search.trials"),
    ("finish.layers=1", "finish.layers: there are no layers to learn from without a start"),
    ("finish.layers=-1", "finish.layers: .*greater than or equal to 0"),
    ("search.rungs=[0.5]", "search: rungs are shares of images, at which a forecast does not look"),
]


@pytest.mark.parametrize(("override", "message"), BAD, ids=[override for override, _ in BAD])
def test_one_line_for_each_mistake(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config("digits", [override])
    assert "\n" not in str(caught.value)


def test_every_preset_loads() -> None:
    for path in PRESETS.glob("*.yaml"):
        assert load_config(path.stem).space
        header = path.read_text().split("\n\n")[0]
        assert all(f"# {word}" in header for word in ("Purpose", "Expected", "Time", "Command"))


def test_overrides_and_round_trip(tmp_path: Path) -> None:
    config = load_config("digits", ["search.trials=7", "search.limits={latency_ms: 2}"])
    assert config.search.trials == 7
    assert config.search.limits == {"latency_ms": 2.0}
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config


def test_a_missing_space_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"data": {"name": "digits"}}))
    with pytest.raises(ConfigError, match=r"run.yaml: line 1: needs the key 'space'"):
        load_config(path)


def test_limited_metrics_that_are_not_traded() -> None:
    config = load_config("digits", ["search.objectives=[accuracy]", "search.limits={macs: 5}"])
    accuracy, macs = config.search.resolve()
    assert (accuracy.traded, accuracy.limit) == (True, None)
    assert (macs.traded, macs.limit) == (False, 5.0)


def test_the_template_explains_every_key(tmp_path: Path) -> None:
    path = PRESETS / "imagefolder.yaml"
    raw = yaml.safe_load(path.read_text())
    everything = load_config(path, ["data.root=/images"]).model_dump(mode="json")
    raw["data"]["root"] = f"/{raw['data']['root']}"
    assert raw == everything
    short = {name: raw[name] for name in ("space", "budget")} | {"data": {"root": "/images"}}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    left_out = load_config(tmp_path / "short.yaml").model_dump(mode="json")
    for config in (everything, left_out):  # the latter's gates are those of the former, left open
        del config["search"]["limits"], config["export"]["max_drop"]
    assert everything == left_out, "what is left out has the values of the template"
    keys = {name: set(section) for name, section in raw.items() if isinstance(section, dict)}
    explained = [
        line.strip() for line in path.read_text().splitlines() if ":" in line and line[0] != "#"
    ]
    said = {line.partition(":")[0] for line in explained if "#" in line}
    plain = {"weight_decay", "lr", "ema", "epochs", "batch_size"}  # said where they come first
    assert set().union(*keys.values()) - plain <= said


def test_presets_say_what_a_newcomer_needs_to_know() -> None:
    assert {path.stem for path in PRESETS.glob("*.yaml")} >= {
        *("digits", "imagefolder", "deit_tiny_imagenet", "cluster")
    }


@pytest.mark.parametrize("key", ["search.limits.latency_ms=2", "data.limit=5", "supernet.lr=0.1"])
def test_any_key_can_be_set(key: str) -> None:
    *sections, last = key.partition("=")[0].split(".")
    found = load_config("digits", [key]).model_dump()
    for section in sections:
        found = found[section]
    assert found[last] == float(key.partition("=")[2])


def test_digits_have_classes_of_their_own() -> None:
    with pytest.raises(ConfigError, match=r"data\.classes: digits have an order of their own"):
        load_config("digits", ["data.classes=names.txt"])


def test_a_mistake_names_the_line_or_the_override(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("# first\nspace: digits\nsearch:\n  trials: 5\n  seed: x\n")
    with pytest.raises(ConfigError, match=r"run.yaml: line 5: search.seed: "):
        load_config(path)
    with pytest.raises(ConfigError, match=r"^--set search.seed=y: search.seed: "):
        load_config(path, ["search.seed=y"])
    with pytest.raises(ConfigError, match=r"run.yaml: line 5: search.seed: "):
        load_config(path, ["search.trials=7"])


@pytest.mark.parametrize("name", ["2024", "no", "01", "1e3", "true", "null", "2024-01-01", "[old]"])
def test_names_stay_what_was_typed(tmp_path: Path, name: str) -> None:
    found = load_config("digits", [f"data.root={name}", f"teacher.model={name}"])
    assert (Path(found.data.root).name, found.teacher.model) == (name, name)
    path = tmp_path / "run.yaml"
    if name != "[old]":  # in a file it is a list
        path.write_text(f"space: digits\ndata: {{root: {name}}}\nteacher: {{model: {name}}}\n")
        read = load_config(path)
        assert (Path(read.data.root).name, read.teacher.model) == (name, name)
        path.write_text(f"space: digits\n<<: {{data: &d {{root: {name}}}}}\n")
        assert Path(load_config(path).data.root).name == name
    path.write_text(found.to_yaml())
    assert load_config(path) == found


def test_numbers_are_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("space: digits\nsupernet: {lr: 1e-4, ema: .5}\nsearch: {trials: 1E2}\n")
    config = load_config(path, ["finish.lr=1e-6"])
    assert (config.supernet.lr, config.supernet.ema) == (1e-4, 0.5)
    assert (config.search.trials, config.finish.lr) == (100, 1e-6)


def test_a_section_as_override_keeps_names() -> None:
    config = load_config("digits", ["data={name: no, root: 01, limit: 0x10}"])
    assert (config.data.name, Path(config.data.root).name, config.data.limit) == ("no", "01", 16)


@pytest.mark.parametrize("nothing", ["", "''"])
def test_a_root_that_was_forgotten_is_no_search_over_digits(tmp_path: Path, nothing: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"space: digits\ndata: {{root: {nothing}}}\n")
    with pytest.raises(ConfigError, match=r"line 2: data: root is empty: name a folder"):
        load_config(path)


def test_no_cost_model_can_be_said() -> None:
    given = ["device.cost_model=m.json"]
    assert load_config("digits", given).device.cost_model == str(Path.cwd() / "m.json")
    assert load_config("digits", [*given, "device.cost_model=null"]).device.cost_model is None


def test_no_start_can_be_said() -> None:
    assert load_config("digits", ["start.model="]).start.model == ""


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("data: {root: photos}", "25min"),
        ("data: {root: photos}\nsearch: {trials: 50}", "25min"),
        ("data: {root: photos}\nbudget: 90 s", "1min30s"),
        ("data: {root: photos}\nbudget: none", "none"),
        ("data: {root: photos}\nfinish: {epochs: 3}", "none"),
        ("data: {root: photos}\nforecast: {candidates: 0}", "none"),
        ("data: {name: digits}", "none"),
        ("data: {name: digits}\nbudget: 2h", "2h"),
    ],
)
def test_images_of_ones_own_have_a_budget_unless_a_length_is_given(
    tmp_path: Path, text: str, budget: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"space: digits\n{text}\n")
    config = load_config(path)
    assert config.budget == budget
    path.write_text(config.to_yaml())  # as a run folder holds it
    assert load_config(path) == config
