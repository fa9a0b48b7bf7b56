"""Bad space files end in one line that names file, key, rule and what was given."""

from pathlib import Path

import pytest

from vitpareto.spaces import ConfigError, SearchSpace, SpaceError, VitParetoError

GOOD = """
name: good
input_size: 32
patch_size: 4
num_classes: 10
global_pool: avg
mixer: [softmax, window]
num_heads: 2
window_size: 4
stages:
  - depth: {low: 1, high: 3}
    width: [32, 64]
    weight_bits: [32, 8]
    blocks:
      mlp_ratio: [1.0, 2.0]
"""


def with_line(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def refusal(text: str, folder: Path) -> VitParetoError:
    """The error on reading a file, after the checks that all messages must pass."""
    file = folder / "space.yaml"
    file.write_text(text)
    with pytest.raises(VitParetoError) as caught:
        SearchSpace.from_yaml(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    assert len(message) < 1000
    return caught.value


def test_the_file_is_good(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(GOOD)
    assert SearchSpace.from_yaml(tmp_path / "space.yaml").size > 100


ALIASES = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "line 1: .*expected"),
        ("space: digits\ndata: {name: digits}", "space: unknown name. Files of runs have it, and"),
        ("- 1\n- 2", "need a mapping of names to values, got a list"),
        ("", "need a mapping of names to values, got an empty file"),
        ("just words", "need a mapping of names to values, got a str"),
        (with_line("num_heads: 2", "num_heads: 2\nnum_heads: 4"), "'num_heads' is given twice"),
        (with_line("num_heads: 2", "num_heads: !!python/name:os.system"), "line 8: .*python/name"),
        (with_line("num_heads: 2", "num_heads: !!python/object/apply:os.getcwd []"), "constructor"),
        (with_line("num_heads: 2", "num_heads: !custom 2"), "line 8: .*!custom"),
        (ALIASES, "more than 20000 values through aliases"),
        ("a: &a [*a]", "more than 20000 values through aliases|recursive"),
        ("a: *b", "line 1: .*undefined alias"),
        ("[" * 3000 + "]" * 3000, "space.yaml: "),
        ("a: b\n--- \nc: d", "document"),
        ("? [1, 2]\n: 3", "line 1|a name must be text"),
        ("? {a: b}\n: 3", "line 1"),
        ("\x00", "not YAML: "),
        ("name: good\n\tdepth: 3", "line 2: "),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_not_a_space_file(text: str, message: str, tmp_path: Path) -> None:
    error = refusal(text, tmp_path)
    assert isinstance(error, ConfigError | SpaceError)
    with pytest.raises(VitParetoError, match=message):
        raise error


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # Names.
        ("num_heads: 2", "nun_heads: 2", "nun_heads: unknown name. Did you mean 'num_heads'"),
        ("mlp_ratio:", "mpl_ratio:", r"blocks\S*mpl_ratio: unknown name. Did you mean 'mlp_ratio'"),
        ("name: good", "3: good", "a name must be text, got 3"),
        ("width: [32, 64]", "widht: [32, 64]", r"stages\S*0\S*widht: .*Did you mean 'width'"),
        ("mlp_ratio: [1.0, 2.0]", "patch_size: 8", "patch_size: belongs to the top of the file"),
        ("mlp_ratio: [1.0, 2.0]", "depth: 8", "depth: belongs to a stage"),
        # Types and ranges.
        ("num_heads: 2", "num_heads: two", "num_heads: need a whole number, got 'two'"),
        ("num_heads: 2", "num_heads: 2.5", "num_heads: need a whole number, got 2.5"),
        ("num_heads: 2", "num_heads: true", "num_heads: need a whole number, got True"),
        ("num_heads: 2", "num_heads: null", "num_heads: need a whole number, got None"),
        ("num_heads: 2", "num_heads: [[2]]", r"num_heads: need a whole number, got \[2\]"),
        ("num_heads: 2", "num_heads: -2", "num_heads: must be between 0 and 1024, got -2"),
        ("num_heads: 2", "num_heads: 9e99", r"num_heads: need a whole number, got 9e\+99"),
        ("[1.0, 2.0]", "[1.0, .nan]", "mlp_ratio: .*nan"),
        ("[1.0, 2.0]", "[1.0, .inf]", "mlp_ratio: .*inf"),
        ("[1.0, 2.0]", "[1.0, -1.0]", "mlp_ratio: must be between"),
        ("weight_bits: [32, 8]", "weight_bits: [32, 9]", "weight_bits: no such value 9"),
        (
            "weight_bits: [32, 8]",
            "prune_ratio: [0, 1.5]",
            "prune_ratio: must be between 0 and 0.95",
        ),
        ("[softmax, window]", "[softmax, windw]", "mixer: .*'windw'. Did you mean 'window'"),
        ("global_pool: avg", "norm: leyer", "norm: no such value 'leyer'. Did you mean 'layer'"),
        # Choices and ranges.
        ("[1.0, 2.0]", "[]", "mlp_ratio: an empty choice"),
        ("[1.0, 2.0]", "[1.0, 1]", "mlp_ratio: values must be all different, got 1.0, 1.0"),
        ("num_classes: 10", "num_classes: [10, 20]", "num_classes: takes one value"),
        ("{low: 1, high: 3}", "{low: 1}", "depth: a range needs low, high"),
        ("{low: 1, high: 3}", "{low: 3, high: 1}", "depth: need low <= high"),
        ("{low: 1, high: 3}", "{low: 1, high: 3, step: 0}", "depth: need .*step > 0"),
        (
            "[1.0, 2.0]",
            "{low: 0.5, high: 1.25}",
            "mlp_ratio: a range of fractions needs a step, got 0.5 to 1.25",
        ),
        ("[1.0, 2.0]", "{low: 1, high: 2.5}", "mlp_ratio: a range of fractions needs a step"),
        (
            "{low: 1, high: 3}",
            "{low: 1, high: 4, step: 2}",
            "depth: in steps of 2 from 1, high must be 3 or 5, got 4",
        ),
        (
            "[1.0, 2.0]",
            "{low: 0.5, high: 1.3, step: 0.1}\n      mlp_capacity: {low: 0.5, high: 1, step: 0.3}",
            "mlp_capacity: in steps of 0.3 from 0.5, high must be 0.8 or 1.1, got 1",
        ),
        ("{low: 1, high: 3}", "{low: a, high: 3}", "depth: low, high and step must be numbers"),
        ("{low: 1, high: 3}", "{low: 1, high: .inf}", "depth: .*inf"),
        ("{low: 1, high: 3}", "{low: 1, high: .nan}", "depth: .*nan"),
        ("{low: 1, high: 3}", "{low: 1, high: 200000}", "depth: .*at most 10000"),
        ("{low: 1, high: 3}", "10000", "depth: must be between 1 and 256"),
        # Structure.
        ("stages:", "stages: 3\nold:", "unknown name|stages: need a list"),
        ("  - depth: {low: 1, high: 3}\n    width", "  - width", r"depth: must be given"),
        (
            "    blocks:\n      mlp_ratio: [1.0, 2.0]",
            "    blocks: 7",
            "blocks: need names and values",
        ),
        ("    blocks:", "    groups:", r"groups\S*size: need a number of blocks, got None"),
        (
            "    blocks:",
            "    groups: {size: true, act_bits: 8}\n    blocks:",
            r"groups\S*size: need a number of blocks, got True",
        ),
        # Conditions and clauses.
        ("name: good", "conditions: []", "conditions: need a list with at least one item"),
        (
            "name: good",
            "conditions: [{choice: act}]",
            r"conditions\S*0\S*: need the names 'choice'",
        ),
        (
            "name: good",
            "conditions: [{choice: mlp_ratoi, when: {mixer: window}}]",
            r"conditions\S*0\S*choice: unknown name 'mlp_ratoi'. Did you mean 'mlp_ratio'",
        ),
        (
            "name: good",
            "conditions: [{choice: mlp_ratio, when: {mixer: linear}}]",
            "never holds, so the choice is unreachable",
        ),
        (
            "name: good",
            "conditions: [{choice: mlp_ratio, when: {mixer: window}}, "
            "{choice: mlp_ratio, when: {mixer: softmax}}]",
            r"conditions\S*1\S*choice: mlp_ratio has a condition already; give all",
        ),
        (
            "name: good",
            "conditions: [{choice: weight_bits, when: {mixer: window}}, "
            "{choice: mixer_weight_bits, when: {mixer: softmax}}]",
            r"conditions\S*1\S*choice: mixer_weight_bits has a condition already",
        ),
        (
            "name: good",
            "conditions: [{choice: mlp_ratio, when: {mlp_ratio: 2.0}}]",
            "mlp_ratio cannot depend on itself",
        ),
        (
            "name: good",
            "conditions: [{choice: width, when: {mixer: window}}]",
            "mixer: differs between blocks, the choice does not",
        ),
        (
            "name: good",
            "forbidden: [{mixr: window}]",
            r"forbidden\S*0\S*mixr: unknown name. Did you mean 'mixer'",
        ),
        ("name: good", "forbidden: [{}]", r"forbidden\S*0\S*: need at least one name"),
        (
            "name: good",
            "forbidden: [{norm: rms, width: 64}]",
            r"forbidden\.0\.norm: never holds: the space has 'layer', the clause wants 'rms'",
        ),
        ("name: good", "forbidden: [{mixer: [softmax, window]}]", "forbidden: {mixer: "),
        ("name: good", "forbidden: [{width: 64}]", "width: no candidate can have 64: forbidden"),
        # What cannot work together.
        ("num_heads: 2", "num_heads: 5", "not num_heads 5 and width 32"),
        ("num_heads: 2", "num_heads: [2, 3]", "num_heads: no candidate can have 3: .* width 32"),
        ("window_size: 4", "window_size: 9", "window_size 9 is larger than the token grid of 8x8"),
        ("patch_size: 4", "patch_size: 5", "input_size 32 must be a multiple of patch_size 5"),
        ("global_pool: avg", "global_pool: token", "mixer 'window' cannot carry a class token"),
        ("weight_bits: [32, 8]", "kernel_size: [3, 5]", "kernel_size: unreachable: no candidate"),
        (
            "mixer: [softmax, window]",
            "mixer: window\nkv_pool: [2, 3]",
            "kv_pool: unreachable: no candidate has a use for this choice",
        ),
        (
            "mixer: [softmax, window]\nnum_heads: 2\nwindow_size: 4",
            "mixer: softmax\nnum_heads: 2\npos_embed: [none, learned, relative]",
            "pos_embed: 'none' and 'relative' are two names for one network where no mixer adds",
        ),
        ("weight_bits: [32, 8]", "token_keep: 0.5\n    mixer: window", "token_keep 0.5 cannot"),
        ("weight_bits: [32, 8]", "mlp_capacity: 0", "mlp_capacity: must be between 0.01 and 1"),
        ("num_heads: 2", "num_heads: 2\ntoken_routing: learnt", "Did you mean 'learned'"),
        (
            "num_heads: 2",
            "num_heads: 2\nnorm: group\nmlp_capacity: 0.5",
            "mlp_capacity 0.5 shifts the statistics of group norm",
        ),
        # Routed mixers: only of sets of tokens.
        ("num_heads: 2", "num_heads: 2\nmixer_capacity: 1.5", "mixer_capacity: must be between"),
        (
            "mixer: [softmax, window]",
            "mixer: window\nmixer_capacity: [1.0, 0.5]",
            "mixer_capacity: no candidate can have 0.5: .* mixer 'window' needs the whole token",
        ),
        (
            "mixer: [softmax, window]",
            "mixer: banded\nband: 4\nmixer_capacity: 0.5",
            "stages.0.blocks.0: mixer_capacity 0.5 takes some .* mixer 'banded' needs the whole",
        ),
        (
            "num_heads: 2",
            "num_heads: 2\nnorm: group\nmixer_capacity: 0.5",
            "mixer_capacity 0.5 shifts the statistics of group norm",
        ),
        (
            "mixer: [softmax, window]",
            "mixer: softmax\nmixer_capacity: 0.5\ntoken_keep: 0.5",
            "token_keep 0.5 ranks tokens by .* mixer_capacity 0.5 leaves some out",
        ),
        (
            "mixer: [softmax, window]",
            "mixer: softmax\nmixer_capacity: 0.5\nrope: index\nrope_base: 100.0",
            "mixer_capacity 0.5 would lose the positions that rope 'index' turns tokens by",
        ),
        (
            "weight_bits: [32, 8]",
            "token_keep: [0.5, 1.0]\n    token_keep_at: '7'",
            "token_keep_at 7 is beyond the last of",
        ),
        (
            "weight_bits: [32, 8]",
            "token_keep: [0.5, 1.0]\n    token_keep_at: [0, x]",
            "token_keep_at: need block indices such as 3 or \"3,6,9\", got 'x'",
        ),
        (
            "      mlp_ratio: [1.0, 2.0]",
            "      token_keep: [0.5, 1.0]\n      mixer: softmax\n    token_keep_at: ['0', '1']",
            "token_keep must be one for the stage, not one for each block",
        ),
    ],
)
def test_bad_spaces(old: str, new: str, message: str, tmp_path: Path) -> None:
    error = refusal(with_line(old, new), tmp_path)
    assert isinstance(error, SpaceError)
    with pytest.raises(SpaceError, match=message):
        raise error


def test_a_condition_on_what_may_have_no_effect(tmp_path: Path) -> None:
    text = with_line("window_size: 4", "window_size: [4, 8]")
    text += "conditions: [{choice: mlp_ratio, when: {window_size: 4}}]\n"
    assert "add what it depends on itself to `when`" in str(refusal(text, tmp_path))
    text = text.replace("{window_size: 4}", "{window_size: 4, mixer: window}")
    (tmp_path / "space.yaml").write_text(text)
    assert SearchSpace.from_yaml(tmp_path / "space.yaml").size > 50


def test_heads_and_pruning_that_name_one_network_twice(tmp_path: Path) -> None:
    text = with_line("num_heads: 2", "num_heads: [2, 3]\nhead_dim: 8\nmixer_prune_ratio: 0.25")
    assert "num_heads: 2 and 3 both give num_heads 2" in str(refusal(text, tmp_path))


def test_token_mixers_of_two_sizes(tmp_path: Path) -> None:
    text = with_line("[softmax, window]", "[softmax, token_mlp]")
    text = text.replace("patch_size: 4", "patch_size: [4, 8]").replace("window_size: 4", "")
    assert "weights for one number of tokens, but patch_size" in str(refusal(text, tmp_path))


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    assert "at most 262144 are read" in str(refusal("# " + "x" * 10_000_000, tmp_path))


def test_not_text(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match=r"space.yaml: not UTF-8 text"):
        SearchSpace.from_yaml(file)


def test_missing_files_and_presets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no.yaml: no such space file"):
        SearchSpace.from_yaml(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match=r"unknown space 'digit'. Did you mean 'digits'"):
        SearchSpace.from_yaml("digit")
    with pytest.raises(ConfigError, match="no such space file"):
        SearchSpace.from_yaml(tmp_path)
    with pytest.raises(ConfigError):
        SearchSpace.from_yaml("")
