"""Spaces that search only what somebody names of a network of others."""

from pathlib import Path

import pytest
import timm
from timm.models.mlp_mixer import MlpMixer

from vitpareto.search.config import load_config
from vitpareto.search.start.derive import derived
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.convert.contract import with_noise
from vitpareto.spaces.errors import ConfigError, SpaceError

VIT = {"img_size": 48, "num_classes": 5, "embed_dim": 48, "num_heads": 3, "depth": 4}


def vit_space(*search: str) -> SearchSpace:
    model = with_noise(timm.create_model("vit_tiny_patch16_224", **VIT)).eval()
    space, found = derived(model, "mine", search)
    assert found["max_abs_difference"] < 1e-3
    assert space == SearchSpace.from_text(space.to_yaml())
    assert space.largest() == Candidate.uncompressed(space.largest().architecture)
    return space


def fields_of(space: SearchSpace) -> set[str]:
    return {choice.name.rpartition(".")[2] for choice in space.parameters}


def test_only_what_is_named_varies_layer_by_layer() -> None:
    space = vit_space("weight_bits", "act_bits", "prune_ratio", "token_keep", "rank_ratio")
    policies = {"weight_bits", "act_bits", "prune_ratio", "rank_ratio"}
    parts = {f"{part}_{name}" for part in ("mixer", "mlp") for name in policies}
    outer = {f"{part}_{name}" for part in ("stem", "head") for name in ("weight_bits", "act_bits")}
    assert fields_of(space) == parts | outer | {"token_keep", "token_reduction"}
    start = space.largest().architecture
    for candidate in space.sample(20):
        a = candidate.architecture
        assert (a.patch_size, len([*a.blocks()])) == (start.patch_size, 4)
        assert {block.mixer for block in a.blocks()} == {"softmax"}
        bits = {p.weight_bits for p in candidate.compression.stages[0].mlp}
        assert bits <= {32, 8, 4}
    ranks = [c.compression.stages[0].mlp[0].rank_ratio for c in space.sample(50)]
    assert set(ranks) == {1.0, 0.75, 0.5}


def test_architecture_alone_and_one_part_alone() -> None:
    assert fields_of(vit_space("depth", "patch_size")) == {"depth", "patch_size"}
    assert fields_of(vit_space("mlp_weight_bits")) == {"mlp_weight_bits"}
    capacities = ("mlp_capacity", "mixer_capacity")
    assert {c.name: c.values for c in vit_space(*capacities).parameters} == {
        f"stages.0.blocks.{j}.{name}": (1.0, 0.75, 0.5) for j in range(4) for name in capacities
    }


def test_what_a_network_does_not_have_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"no choice 'width' for this network\. Known: "):
        vit_space("width")
    with pytest.raises(SpaceError, match=r"no choice 'prune_ration' .*'prune_ratio'"):
        vit_space("prune_ration")
    mixer = with_noise(MlpMixer(img_size=64, num_blocks=2, embed_dim=48).eval())
    for name in ("token_keep", "mixer_capacity"):
        with pytest.raises(SpaceError, match=f"no choice '{name}' for this network"):
            derived(mixer, "mixer", [name])


def config_of(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text + "data: {root: photos}\n")
    return path


def test_a_run_file_says_it_in_a_line(tmp_path: Path) -> None:
    line = "space: {from: ./net/vit, search: [weight_bits, act_bits]}\n"
    config = load_config(config_of(tmp_path, line + "start: {classes: names.txt}\n"))
    assert config.space == "auto"
    assert config.start.model == str(tmp_path / "net/vit")
    assert config.start.classes == str(tmp_path / "names.txt")
    assert config.start.search == ("weight_bits", "act_bits")
    written = tmp_path / "again.yaml"
    written.write_text(config.to_yaml())
    assert load_config(written) == config


def test_a_run_file_says_of_which_size(tmp_path: Path) -> None:
    config = load_config(config_of(tmp_path, "space: {from: ./net/vit, input_size: 96}\n"))
    assert config.space == "auto@96" and config.derives_space


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {search: [depth]}\n", r"space: .*\{from: MODEL, .*\}, got"),
        ("space: {from: vit, searched: [depth]}\n", "space: is a name, a file, or"),
        ("space: {from: vit}\nstart: {model: deit}\n", "got 'vit' beside start.model 'deit'"),
        (
            "space: {from: vit, search: [depth]}\nstart: {search: [mixer]}\n",
            r"space.search: is start.search, got \[.depth.\] beside \[.mixer.\]",
        ),
        ("space: cifar\nstart: {model: vit, search: [depth]}\n", "start.search: .*space=auto"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(config_of(tmp_path, text))
