"""Which of the delivered models is handed over."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vitpareto.search.cli.text import choice_lines, model_table
from vitpareto.search.delivery.manifest import Manifest
from vitpareto.search.delivery.pick import pick_model
from vitpareto.spaces.errors import ConfigError, RunError, UnknownNameError

OLD = Path(__file__).parents[2] / "data" / "manifest_0_1_0.json"


def front(*models: tuple[str, float, float]) -> list[Manifest]:
    """Manifests of models with a key, an accuracy and a latency."""
    old = Manifest.from_dict(json.loads(OLD.read_text()))
    return [
        replace(old, key=key, metrics=replace(old.measured(), accuracy=accuracy, latency_ms=ms))
        for key, accuracy, ms in models
    ]


FOUR = front(
    ("aa1", 0.91, 0.013), ("ab2", 0.989, 0.027), ("cc3", 0.996, 0.055), ("dd4", 0.992, 0.2)
)
TWO = front(("aa1", 0.924, 0.02), ("bb2", 0.978, 0.04))


@pytest.mark.parametrize(
    ("pick", "within", "key"),
    [
        ("good", (), "ab2"),
        ("best", (), "cc3"),
        ("fastest", (), "aa1"),
        ("knee", (), "ab2"),
        ("D", (), "dd4"),
        ("cc", (), "cc3"),
        ("fastest", ("accuracy>=0.97",), "ab2"),
        ("good", ("accuracy >= 0.99", "latency_ms<=0.1"), "cc3"),
        ("best", ("latency_ms<=0.03",), "ab2"),
        ("best", ("params<=1e9", "macs<=1e12"), "cc3"),
    ],
)
def test_ways(pick: str, within: tuple[str, ...], key: str) -> None:
    assert pick_model(FOUR, pick, within).key == key


def test_there_may_be_more_than_letters() -> None:
    many = front(*((f"k{n:02}", 0.9, 0.01 * (n + 1)) for n in range(30)))
    assert pick_model(many, "B1").key == "k27"
    assert (
        len(choice_lines(many, many[29])) == 31 and "-> D1 k29" in choice_lines(many, many[29])[-1]
    )
    assert "| D1 |" in model_table(many)[-1]


@pytest.mark.parametrize("pick", ["good", "knee", "best"])
def test_of_two_the_accurate_one(pick: str) -> None:
    assert pick_model(TWO, pick).key == "bb2"


@pytest.mark.parametrize(
    ("pick", "within", "error", "message"),
    [
        ("E", (), UnknownNameError, "unknown model 'E'"),
        ("nearest", (), UnknownNameError, "fastest"),
        ("", (), UnknownNameError, "unknown model ''"),
        ("AB", (), UnknownNameError, "unknown model 'AB'"),
        ("a", (), ConfigError, "'a' is the beginning of 2 keys: aa1, ab2"),
        ("good", ("accuracy>=97",), ConfigError, "accuracy is a share: 0.97, got 'accuracy>=97'"),
        ("good", ("accuracy<=0.9",), ConfigError, "accuracy is limited by >="),
        ("good", ("latency>=1",), ConfigError, "Did you mean 'latency_ms'"),
        ("good", ("latency_ms=1",), ConfigError, "need a metric, <= or >=, and a number"),
        ("good", ("latency_ms<=-1",), ConfigError, "a limit of latency_ms is above 0, got"),
        ("good", ("latency_ms<=0",), ConfigError, "a limit of latency_ms is above 0, got"),
        ("good", ("accuracy>=nan",), ConfigError, "a limit of accuracy is above 0, got"),
        ("good", ("latency_ms<=fast",), ConfigError, "need a metric, <= or >=, and a number"),
        ("best", ("accuracy>=0.999",), RunError, "none of 4 delivered models keeps"),
        ("A", ("accuracy>=0.95",), RunError, "none of 4 delivered models keeps"),
        ("best", ("params<=1",), RunError, "none of 4 delivered models keeps"),
    ],
)
def test_mistakes(pick: str, within: tuple[str, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pick_model(FOUR, pick, within)
