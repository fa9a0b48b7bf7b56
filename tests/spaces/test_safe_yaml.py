import math

import pytest
import yaml

from vitpareto.spaces import ConfigError
from vitpareto.spaces.safe_yaml import comment_behind, dump_yaml, parse_as_typed, parse_yaml

# Section 10.3.2 of YAML 1.2.2, and what PyYAML's 1.1 reads in another way.
SCALARS = {
    **{"1e-6": 1e-6, "1E3": 1000.0, ".5": 0.5, "1.": 1.0, "-0.0": -0.0, "+12.3": 12.3},
    **{"0": 0, "-19": -19, "+5": 5, "010": 10, "0o17": 15, "0x1F": 31, ".inf": math.inf},
    **{"-.INF": -math.inf, "true": True, "True": True, "FALSE": False},
    **{"null": None, "Null": None, "~": None, "": None},
}
TEXTS = [
    *("yes", "no", "on", "off", "y", "n", "No", "tRUE", "12:30", "190:20:30", "2024-01-01"),
    *("2001-12-14t21:59:43.10-05:00", "1_000", "0b11", "0x", "0o8", "1e", "e3", ".", "+", "nan"),
    *("=", "1.2.3", "inf", "~/photos", "nUll", "-0x1F"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_core_schema(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}", "test")["key"]
    assert (found, type(found)) == (value, type(value))
    assert parse_as_typed(f"key: {text}", "test")["key"] == text


def test_not_a_number() -> None:
    assert math.isnan(parse_yaml("key: .nan", "test")["key"])


@pytest.mark.parametrize("text", TEXTS)
def test_text(text: str) -> None:
    assert parse_yaml(f"key: {text}", "test") == {"key": text}


@pytest.mark.parametrize("text", [*SCALARS, *TEXTS, "a # b", "<<"])
def test_written_text_is_read_as_text_by_both_versions(text: str) -> None:
    written = dump_yaml({"key": text})
    assert parse_yaml(written, "test") == yaml.safe_load(written) == {"key": text}


@pytest.mark.parametrize("value", [1e-6, 1e300, 0.1, -3, True, None, math.inf, [1, {"a": 2.0}]])
def test_written_values_come_back(value: object) -> None:
    assert parse_yaml(dump_yaml({"key": value}), "test") == {"key": value}


def test_merged_keys_are_the_same_in_both_readings() -> None:
    text = "base: &b {x: 1, y: no}\nother:\n  <<: *b\n  y: 2\n"
    assert parse_yaml(text, "test")["other"] == {"x": 1, "y": 2}
    assert parse_as_typed(text, "test")["other"] == {"x": "1", "y": "2"}


def test_what_overrides_a_merged_key_may_be_merged_itself() -> None:
    """Wherever it stands: an anchor is often read after those who use it."""
    text = "a: &a {x: 1, y: 1}\nouter: {b: &b {<<: *a, x: 2}}\nc: {<<: *b, y: 3}\n"
    assert parse_yaml(text, "test")["c"] == {"x": 2, "y": 3}
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b], z: 3}\n"
    assert parse_yaml(text, "test")["c"] == {"x": 1, "y": 2, "z": 3}
    with pytest.raises(ConfigError, match="line 2: key 'x' is given twice"):
        parse_yaml("a: &a {y: 1}\nb: {c: {<<: *a, x: 2, x: 3}}\n", "test")


@pytest.mark.parametrize(
    "text",
    [
        *("key: !!int many", "key: !!float x", "key: !!timestamp 99", "key: !!set {a}"),
        *("key: !!binary x", "key: !!python/name:os.system", f"key: {'9' * 5000}", "key: !!bool x"),
    ],
)
def test_one_line_for_what_is_no_plain_data(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^test: ") as caught:
        parse_yaml(text, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("data:\n  root: photos #2\n", " #2"),
        ("data:\n  root: photos   # mine #3\n  name: x\n", "   # mine #3"),
        ("data: {\n  root: photos #2\n}\n", " #2"),
        ("data:\n  root: photos\n  # another line\n", ""),
        ("data:\n  root: 'photos' #2\n", ""),
        ("data:\n  root: photos#2\n", ""),
        ("data: {root: photos, name: x} #2\n", ""),
        ("data:\n  name: x #2\n", ""),
        ("data: 3 #2\n", ""),
    ],
)
def test_comments_behind_a_value(text: str, comment: str) -> None:
    assert comment_behind(text, ["data", "root"]) == comment
