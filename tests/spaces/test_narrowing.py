"""A space without some choices has exactly the other candidates."""

import random

import pytest

from vitpareto.spaces import SearchSpace, SpaceError
from vitpareto.spaces.errors import ChoiceError
from vitpareto.spaces.narrowing import alternatives, without

SMALL = """
name: small
in_chans: 1
num_classes: 3
input_size: 16
patch_size: 4
global_pool: avg
norm: [layer, rms]
stages:
  - depth: [1, 2]
    width: 16
    head_dim: 8
    num_heads: 2
    window_size: [2, 4]
    token_keep: [1.0, 0.5]
    token_keep_at: ["0", "1"]
    groups:
      size: 2
      weight_bits: [32, 8]
    blocks:
      mixer: [softmax, window]
      mlp_ratio: 2.0
conditions:
  - {choice: window_size, when: {mixer: window}}
"""
TWO = """
name: two
in_chans: 1
num_classes: 3
input_size: 16
patch_size: 4
global_pool: avg
norm: [layer, rms]
num_heads: 2
head_dim: 4
mlp_ratio: [1.0, 2.0]
stages:
  - {depth: 1, width: 8, mixer: [softmax, pool]}
  - {depth: [1, 2], width: 16, mixer: linear}
"""


TURNS = """
name: turns
in_chans: 1
num_classes: 3
input_size: 16
patch_size: 4
global_pool: avg
stages:
  - depth: 3
    width: 16
    head_dim: 8
    num_heads: 2
    blocks:
      - {mixer: [softmax, linear], mlp_ratio: 0.0}
      - {mixer: pool, mlp_ratio: [2.0, 1.0]}
"""


def space(text: str = SMALL) -> SearchSpace:
    return SearchSpace.from_text(text)


def every(of: SearchSpace) -> dict[str, dict[tuple[int, ...], dict[str, object]]]:
    """Settings of all candidates by key."""
    rng, found = random.Random(0), {}
    while len(found) < of.size:
        candidate = of.draw(rng)
        found[candidate.key] = candidate
    return {key: of.settings(candidate) for key, candidate in found.items()}


@pytest.mark.parametrize(
    "clause",
    [
        {"mixer": "window"},
        {"norm": "rms"},
        {"mixer": "window", "norm": "rms"},
        {"mixer_weight_bits": 8},
        {"token_keep": 0.5},
        {"mixer": "softmax", "mixer_weight_bits": 8},
    ],
    ids=str,
)
def test_what_is_left_is_what_has_not_all_of_a_clause(clause: dict[str, object]) -> None:
    whole = space()
    narrowed = without(whole, [clause])

    def has(settings: dict[tuple[int, ...], dict[str, object]]) -> bool:
        blocks = (where for where in settings if len(where) == 2)
        around = ({**settings[()], **settings[where[:1]], **settings[where]} for where in blocks)
        return any(clause.items() <= fields.items() for fields in around)

    left = {key for key, settings in every(whole).items() if not has(settings)}
    assert 0 < len(left) < whole.size and set(every(narrowed)) == left
    assert SearchSpace.from_text(narrowed.to_yaml()) == narrowed  # as a run folder keeps it
    assert without(narrowed, [clause]) == narrowed
    assert whole == space()


def test_choices_that_nothing_uses_any_more_go() -> None:
    """Where tokens are dropped is no choice once none are, nor is the size of no window."""
    named = {choice.name for choice in space().parameters}
    left = {choice.name for choice in without(space(), [{"token_keep": 0.5}]).parameters}
    assert named - left == {"stages.0.token_keep", "stages.0.token_keep_at"}
    narrowed = without(space(), [{"mixer": "window"}])
    assert not any("window_size" in choice.name for choice in narrowed.parameters)
    assert "conditions" not in narrowed.spec


def test_a_combination_that_every_candidate_has_takes_a_choice() -> None:
    """All candidates have a linear mixer, so that none can have the norm beside it."""
    narrowed = without(space(TWO), [{"mixer": "linear", "norm": "rms"}])
    assert narrowed.spec["norm"] == "layer"
    assert {c.architecture.norm for c in narrowed.sample(20)} == {"layer"}


def test_a_general_name_stands_for_both_of_its_parts() -> None:
    text = SMALL.replace("weight_bits", "mixer_weight_bits")
    narrowed = without(space(text), [{"weight_bits": 8}])
    assert narrowed.spec["stages"][0]["groups"]["mixer_weight_bits"] == 32
    with pytest.raises(ChoiceError, match="mlp_weight_bits: 32, the default, is the only choice"):
        without(space(text), [{"weight_bits": 32}])


def test_relative_positions_go_with_the_last_mixer_that_has_them() -> None:
    whole = space(SMALL.replace("norm: [layer", "pos_embed: [none, relative]\nnorm: [layer"))
    assert without(whole, [{"mixer": "window"}]).spec["pos_embed"] == "none"


def test_nothing_to_drop_gives_the_space_back() -> None:
    whole = space()
    assert without(whole, []) is whole
    assert without(whole, [{"mixer": "grouped"}]) is whole


@pytest.mark.parametrize(
    ("clauses", "message"),
    [
        ([{"mixer": "linear"}], r"stages\.1\.mixer: 'linear' is the only choice"),
        ([{"norm": "layer"}, {"norm": "rms"}], "norm: 'rms' is the only choice"),
        ([{"act": "gelu"}], "act: 'gelu', the default, is the only choice"),
    ],
)
def test_the_last_choice_cannot_go(clauses: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ChoiceError, match=message):
        without(space(TWO), clauses)


def test_a_default_of_one_stage_cannot_go() -> None:
    text = TWO.replace(", mixer: linear", "")
    with pytest.raises(ChoiceError, match=r"stages\.1\.mixer: 'softmax', the default"):
        without(space(text), [{"mixer": "softmax"}])


def test_no_candidate_is_left() -> None:
    with pytest.raises(SpaceError):
        without(space(TWO), [{"mixer": "linear", "norm": n} for n in ("layer", "rms")])


def test_alternatives_stand_wherever_the_value_stood() -> None:
    others = dict(alternatives(space(TWO), "mixer", "linear"))
    assert "linear" not in others and "softmax" in others
    assert others["softmax"].spec["stages"][1]["mixer"] == "softmax"
    assert "window" not in others  # larger than the grid of the stage
    assert dict(alternatives(space(TWO), "act", "gelu"))["relu"].spec["act"] == "relu"
    assert dict(alternatives(space(), "mixer_weight_bits", 8)).keys() == {32, 16, 4}


def test_blocks_take_turns() -> None:
    turns = space(TURNS)
    (stage,) = turns.largest().architecture.stages
    assert [block.mixer for block in stage.blocks] == ["softmax", "pool", "softmax"]
    assert [block.mlp_hidden for block in stage.blocks] == [0, 32, 0]
    assert turns.size == 2 * 2 * 2 and SearchSpace.from_text(turns.to_yaml()) == turns
    narrow = without(turns, [{"mixer": "linear"}])
    assert narrow.size == 2 and narrow.largest() == turns.largest()
    with pytest.raises(ChoiceError, match="'pool' is the only choice"):
        without(turns, [{"mixer": "pool"}])
    with pytest.raises(SpaceError, match=r"stages.0.blocks: an empty list"):
        space(TURNS.partition("      - {")[0].replace("blocks:", "blocks: []"))


def test_a_default_of_blocks_that_take_turns_cannot_go() -> None:
    text = TURNS.replace("mixer: pool, ", "")
    with pytest.raises(ChoiceError, match=r"stages\.0\.mixer: 'softmax', the default"):
        without(space(text), [{"mixer": "softmax"}])


def test_a_default_without_effect_is_no_obstacle() -> None:
    """The first stage has the stem where others have a downsampling."""
    text = TWO.replace("mixer: linear", "mixer: linear, downsample: [conv, patch]")
    left = without(space(text), [{"downsample": "conv"}])
    assert {c.architecture.stages[1].downsample for c in left.sample(9)} == {"patch"}


def test_clauses_that_can_no_longer_hold_go() -> None:
    clauses = "forbidden: [{mixer: window, norm: rms}, {mixer: softmax, norm: rms, depth: 2}]"
    narrowed = without(space(f"{SMALL}{clauses}"), [{"mixer": "window"}])
    assert [set(clause) for clause in narrowed.spec["forbidden"]] == [{"mixer", "norm", "depth"}]
    assert SearchSpace.from_text(narrowed.to_yaml()) == narrowed
