"""A start fitted to a space and to images says what it said before; adapting makes it better."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from vitpareto.search.config import AdaptConfig, StartConfig
from vitpareto.search.data.augment import Norm
from vitpareto.search.data.dataset import Data
from vitpareto.search.data.digits import CLASSES, read_digits
from vitpareto.search.start import adapt
from vitpareto.search.start.adapt import Adaptation, layer_scale
from vitpareto.search.start.derive import derived_spec
from vitpareto.search.start.fitted import (
    Start,
    check_start,
    class_rows,
    fit,
    load_network,
    open_start,
    place,
    save_network,
    teacher_of,
)
from vitpareto.search.start.probe import logistic_regression
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.checkpoint import Checkpoint
from vitpareto.search.training.supernet import shared_from
from vitpareto.search.training.teacher import make_lessons, predict
from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace, Stage
from vitpareto.spaces.errors import RunError, SpaceError
from vitpareto.spaces.networks import Network

from ..compress.helpers import random_network
from ..own_vit import NORM, SIZE, SPACE, Own, new_model, save_model

AS_IT_IS = AdaptConfig(epochs=0)


@pytest.fixture(scope="module")
def own_space() -> SearchSpace:
    return SearchSpace.from_text(SPACE)


def config_of(own: Own, **fields: Any) -> StartConfig:
    return StartConfig(model=own.name, **{"adapt": AS_IT_IS, **fields})


def fitted(config: StartConfig, space: SearchSpace, data: Data) -> Network:
    return fit(open_start(config), config, space, data)[0]


def test_a_photo_gives_the_logits_of_the_original(
    own: Own, own_space: SearchSpace, data: Data
) -> None:
    """Each with its own preprocessing, from the same pixels."""
    pixels, _ = read_digits(SIZE)
    with torch.no_grad():
        wanted = own.model(NORM(pixels[:20]))
        seen = (pixels[:20] / 255 - data.mean[0]) / data.std[0]
        logits = fitted(config_of(own), own_space, data)(seen)
    assert torch.allclose(logits, wanted, atol=1e-4 * float(wanted.abs().max()))


@torch.no_grad()
def test_a_space_that_trains_in_branches_takes_a_start_as_it_is(data: Data) -> None:
    block = Block("conv_next", kernel_size=3, mlp_hidden=32)
    around = {"pos_embed": "none", "global_pool": "avg", "patch_size": 4}
    a = Architecture((Stage(16, (block,)),), SIZE, 1, 10, **around)
    start, config = Start("mine", random_network(a), NORM), StartConfig(model="m", adapt=AS_IT_IS)
    spec, x = derived_spec(a, "mine"), data.split("search").images[:8]
    plain, branched = (
        fit(start, config, SearchSpace(spec | {"reparam": reparam}), data)[0]
        for reparam in (False, True)
    )
    assert branched.architecture.reparam and not plain.architecture.reparam
    assert torch.allclose(branched(x), plain(x), atol=1e-5)


def test_pixels_that_are_given_go_before_those_of_the_model(
    own: Own, own_space: SearchSpace, data: Data
) -> None:
    images = data.split("search").images[:8]
    config = config_of(own, mean=data.mean, std=data.std)
    with torch.no_grad():
        assert torch.allclose(fitted(config, own_space, data)(images), own.model(images), atol=1e-4)
    with pytest.raises(RunError, match=r"start.mean: .* takes images of 1 channel\(s\), got 3"):
        open_start(config_of(own, mean=(0.5,) * 3, std=(0.5,) * 3))


def test_weights_of_a_file_go_before_those_of_the_folder(
    own: Own, own_space: SearchSpace, data: Data, tmp_path: Path
) -> None:
    """The folder's are untrained; the file has one class more, and names them in its own order."""
    folder = save_model(tmp_path / "new", new_model(3))
    weights = dict(own.weights)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    for name in ("head.weight", "head.bias"):
        weights[name] = torch.cat([weights[name][order], weights[name][:1] - 9])
    save_file(weights, tmp_path / "w.safetensors")
    names = [CLASSES[i] for i in order]
    (tmp_path / "names.txt").write_text("\n".join([*names, "nothing"]))
    config = config_of(
        folder, checkpoint=str(tmp_path / "w.safetensors"), classes=str(tmp_path / "names.txt")
    )
    with torch.no_grad():
        images = data.split("search").images[:8]
        wanted = fitted(config_of(own), own_space, data)(images)
        assert torch.allclose(fitted(config, own_space, data)(images), wanted, atol=1e-5)
    (tmp_path / "names.txt").write_text("\n".join(names))
    with pytest.raises(RunError, match=r"names 10 classes, .* has 11 outputs"):
        fitted(config, own_space, data)


def test_names_of_classes_that_nearly_fit(own: Own, tmp_path: Path) -> None:
    start, file = open_start(config_of(own)), tmp_path / "names.txt"
    config = config_of(own, classes=str(file))

    def rows(names: str, *classes: str) -> list[int | None]:
        file.write_text("\n".join([*names.split(), *"01234"]), "utf-8")
        return class_rows(start, config, classes)

    assert rows("crane Dog dog crane cat", "dog", "new", "Dog") == [2, None, 1]
    with pytest.raises(RunError, match=r"names\.txt: holds 'crane' twice"):
        rows("crane dog jay crane cat", "dog", "crane")
    with pytest.raises(RunError, match=r"it holds 'Dog', the class is 'dog'$"):
        rows("crane Dog jay crane cat", "dog", "cat")
    with pytest.raises(RunError, match=r"it holds 'caf\\xe9', the class is 'cafe\\u0301'$"):
        rows("caf\u00e9 dog jay owl cat", "dog", "cafe\u0301")


def test_what_knows_other_classes_is_not_taken_as_it_is(
    own_space: SearchSpace, own: Own, data: Data, tmp_path: Path
) -> None:
    other = save_model(tmp_path / "other", new_model(7))
    with pytest.raises(RunError, match="does not know 10 of the 10 classes, such as '0'"):
        check_start(open_start(config_of(other)), config_of(other), own_space, data)
    adapted = config_of(other, adapt=AdaptConfig())
    assert check_start(open_start(adapted), adapted, own_space, data) is None
    moved = dict(own.weights)
    for name in ("head.weight", "head.bias"):
        moved[name] = moved[name].roll(1, 0).contiguous()
    save_file(moved, tmp_path / "moved.safetensors")
    config = config_of(own, checkpoint=str(tmp_path / "moved.safetensors"))
    with pytest.raises(RunError, match=r"another order: .* as start\.classes"):
        check_start(open_start(config), config, own_space, data)
    guesses = save_model(tmp_path / "guesses", new_model(10))
    with pytest.raises(RunError, match="by chance"):
        check_start(open_start(config_of(guesses)), config_of(guesses), own_space, data)
    found = check_start(open_start(config_of(own)), config_of(own), own_space, data)
    assert found and found.accuracy > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width: 32": "width: 16", "[2, 4]": "2"}, "has width 32, .* 16: the start is larger"),
        ({"width: 32": "width: [32, 64]"}, "has width 32, .* 64: the start is smaller"),
        ({"depth: [1, 2]": "depth: [1, 2, 3]"}, "has depth 2, .* 3: the start is smaller"),
        ({"[2.0, 4.0]": "[1.0, 2.0]"}, "has mlp_hidden in block 0 128, .* 64: the start is larger"),
        ({"patch_size: 4": "patch_size: 4\nact: relu"}, "another act: 'relu' instead of 'gelu'"),
        (
            {"depth: [1, 2]": "depth: [1, 2]\n    token_keep: [0.7, 0.5]"},
            r"another stages\.0\.blocks\.\d\.token_keep: 0\.7 instead of 1\.0; add that choice",
        ),
    ],
)
def test_spaces_of_another_size(own: Own, change: dict[str, str], message: str) -> None:
    text = SPACE
    for old, new in change.items():
        text = text.replace(old, new)
    with pytest.raises(SpaceError, match=message) as caught:
        place(open_start(config_of(own)), SearchSpace.from_text(text))
    assert "\n" not in str(caught.value)


def test_image_and_patch_size_are_those_of_the_space(own: Own, data: Data) -> None:
    space = SearchSpace.from_text(
        SPACE.replace("input_size: 16", "input_size: 32").replace("size: 4", "size: 8")
    )
    network = fitted(config_of(own), space, data)
    assert (network.architecture.input_size, network.architecture.patch_size) == (32, 8)
    split = data.split("search")
    found = accuracy(predict(teacher_of(network), split.images), split.labels)["accuracy"]
    assert found > 0.7  # the same patches, but for what resizing blurs


def test_a_network_is_read_back(own: Own, tmp_path: Path) -> None:
    network = open_start(config_of(own)).network
    save_network(tmp_path / "n.safetensors", network)
    again = load_network(tmp_path / "n.safetensors")
    assert again.architecture == network.architecture
    assert all(v.equal(again.state_dict()[n]) for n, v in network.state_dict().items())
    (tmp_path / "n.safetensors").write_bytes(b"abc")
    with pytest.raises(RunError, match="cannot be read"):
        load_network(tmp_path / "n.safetensors")


def test_the_largest_candidate_is_the_start(own: Own, own_space: SearchSpace, data: Data) -> None:
    """Sorting by importance changes no function."""
    network = fitted(config_of(own), own_space, data)
    lessons = make_lessons(data, teacher_of(network), 1)
    supernet = shared_from(network, own_space, lessons, 0)
    images = data.split("search").images[:8]
    with torch.no_grad():
        logits = supernet(Candidate.uncompressed(network.architecture), images)
        assert torch.allclose(logits, network(images), atol=1e-4)


def test_the_probe_is_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    x = rng.normal(size=(300, 5)) * [1, 10, 0.1, 1, 1] + labels[:, None] * 0.5
    weight, bias = logistic_regression(
        torch.tensor(x, dtype=torch.float32), torch.tensor(labels), 4, 200
    )
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    wanted = LogisticRegression(max_iter=1000).fit(z, labels).predict_log_proba(z)
    found = (torch.tensor(x, dtype=torch.float32) @ weight.T + bias).log_softmax(1)
    assert np.abs(found.numpy() - wanted).max() < 0.02


def test_rates_fall_from_the_head_down(own: Own) -> None:
    network = open_start(config_of(own)).network
    scale = layer_scale(network, 0.5)
    found = {name: scale(name) for name, _ in network.named_parameters()}
    assert found["head.weight"] == found["norm.bias"] == 1
    assert found["stages.0.blocks.1.attn.q.weight"] == 0.5
    assert found["stages.0.blocks.0.mlp.fc2.bias"] == 0.25
    assert found["patch_embed.proj.weight"] == found["pos_embed"] == found["cls_token"] == 0.125


@pytest.mark.parametrize(
    "fields",
    [
        {"global_pool": "map"},
        {"global_pool": "avg", "final_norm": "pooled", "pre_norm": True},
        {"global_pool": "avg", "head_hidden": 16, "head_norm": True, "stem_norm": True},
        {"global_pool": "avg_distill", "final_norm": "pooled"},
    ],
)
def test_all_that_follows_the_blocks_learns_as_fast_as_the_head(fields: dict[str, Any]) -> None:
    block = Block("softmax", num_heads=2, head_dim=8, mlp_hidden=32)
    architecture = Architecture(
        stages=(Stage(16, (block,) * 2),),
        input_size=8,
        patch_size=4,
        in_chans=1,
        num_classes=4,
        **fields,
    )
    network = Network(architecture)
    scale = layer_scale(network, 0.5)
    parts = [name for name, _ in network.named_children()]
    behind = parts[parts.index("stages") + 1 :]
    found = {
        name: scale(name) for name, _ in network.named_parameters() if not name.startswith("stages")
    }
    assert found == {n: 1 if n.partition(".")[0] in behind else 0.125 for n in found}


def test_adaptation_teaches_new_classes(
    own: Own, own_space: SearchSpace, data: Data, tmp_path: Path
) -> None:
    config = config_of(own, adapt=AdaptConfig(epochs=2, mixup=0.2, label_smoothing=0.1))
    weights = dict(own.weights)
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name][:4].contiguous()
    save_file(weights, tmp_path / "four.safetensors")
    config = config.model_copy(update={"checkpoint": str(tmp_path / "four.safetensors")})
    network, knows = fit(open_start(config), config, own_space, data)
    assert not knows
    facts = Adaptation(data, config.adapt, 0)(network, Checkpoint(tmp_path / "c"), knows)
    assert "accuracy_before" not in facts
    assert 0.7 < facts["accuracy_probed"] <= facts["accuracy"]
    split = data.split("validation")
    assert accuracy(predict(network, split.images), split.labels)["accuracy"] == facts["accuracy"]


def test_an_adaptation_of_which_nothing_is_left_is_one_line(
    own: Own, own_space: SearchSpace, data: Data, tmp_path: Path
) -> None:
    config = config_of(own, adapt=AdaptConfig(epochs=1, batch_size=2000, lr=1e6))
    network, knows = fit(open_start(config), config, own_space, data)
    with pytest.raises(RunError, match=r"start: the logits .*; try a smaller start\.adapt\.lr"):
        Adaptation(data, config.adapt, 0)(network, Checkpoint(tmp_path / "c"), knows)


def test_a_stopped_adaptation_goes_on_as_if_it_had_not_been(
    own: Own, own_space: SearchSpace, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(own, adapt=AdaptConfig(epochs=2, mixup=0.2, ema=0.9, probe_epochs=5))
    train = Adaptation(data, config.adapt, 3)
    whole, knows = fit(open_start(config), config, own_space, data)
    facts = train(whole, Checkpoint(tmp_path / "whole"), knows)
    assert facts["accuracy_before"] <= facts["accuracy"] + 1e-9

    def killed_at(step: int) -> None:
        def check(loss: torch.Tensor, what: str, done: int) -> float:
            if done == step:
                raise KeyboardInterrupt
            return loss.item()

        monkeypatch.setattr(adapt, "check_finite", check)

    kept, part = Checkpoint(tmp_path / "kept"), fit(open_start(config), config, own_space, data)[0]
    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    for step in (3, 20):
        killed_at(step)
        with pytest.raises(KeyboardInterrupt):
            train(part, kept, knows)
        part = fit(open_start(config), config, own_space, data)[0]
    monkeypatch.undo()
    assert train(part, kept, knows) == facts
    state = part.state_dict()
    assert all(value.equal(state[name]) for name, value in whole.state_dict().items())


def of_transformers(folder: Path, kind: str, mean: float) -> Any:
    """A small vision transformer of Hugging Face for color images, saved in its folder."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=SIZE,
        patch_size=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=10,
        layer_norm_eps=1e-6,
    )
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    about = {"image_mean": [mean] * 3, "image_std": [0.5, 0.25, 0.5], "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return model


def test_a_folder_of_hugging_face_brings_its_pixels(
    own_space: SearchSpace, data: Data, tmp_path: Path
) -> None:
    """Gray images are shown to it in its colors, each as its processor has it."""
    model = of_transformers(tmp_path / "hf", "ViTForImageClassification", 0.3)
    config = StartConfig(model=str(tmp_path / "hf"), adapt=AS_IT_IS)
    pixels, _ = read_digits(SIZE)
    norm = Norm((0.3,) * 3, (0.5, 0.25, 0.5))
    with torch.no_grad():
        wanted = model(norm(pixels[:10].expand(-1, 3, -1, -1))).logits
        seen = (pixels[:10] / 255 - data.mean[0]) / data.std[0]
        logits = fitted(config, own_space, data)(seen)
    assert torch.allclose(logits, wanted, atol=1e-4 * float(wanted.abs().max()))
    (tmp_path / "hf" / "preprocessor_config.json").unlink()
    with pytest.raises(RunError, match=r"start\.mean: nothing says which pixels"):
        open_start(config)


def test_a_backbone_gets_a_head(own_space: SearchSpace, data: Data, tmp_path: Path) -> None:
    of_transformers(tmp_path / "hf", "ViTModel", 0.3)
    config = StartConfig(model=str(tmp_path / "hf"))
    network, knows = fit(open_start(config), config, own_space, data)
    assert not knows and network.head.weight.shape == (10, 32)
    before = config.model_copy(update={"adapt": AS_IT_IS})
    with pytest.raises(RunError, match="does not know 10 of the 10 classes"):
        fit(open_start(before), before, own_space, data)
