"""Ready models: what is wrong with one is said in one line, before anything else happens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from vitpareto.search.config import DataConfig, TeacherConfig, load_config
from vitpareto.search.data.augment import Norm
from vitpareto.search.data.dataset import Data, Images
from vitpareto.search.data.loading import load_data
from vitpareto.search.data.pixels import Look
from vitpareto.search.data.splits import SPLITS
from vitpareto.search.training.ready_teacher import best_order, check_teacher, judge
from vitpareto.search.training.teacher import open_teacher, predict
from vitpareto.search.training.timm_models import Expert, check_name
from vitpareto.spaces.errors import ConfigError, RunError

from ..conftest import invoke

MODEL = "test_resnet"
COLORS = {
    "cyan": (30, 200, 200),
    "ink": (20, 20, 60),
    "red": (200, 40, 40),
    "sand": (220, 200, 150),
}


def folder(path: Path, each: int = 24) -> Path:
    """Noisy images of one color for each class."""
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (path / name).mkdir(parents=True)
        for i in range(each):
            noise = rng.normal(0, 20, (24, 24, 3)) + color
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path / name / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def data(root: Path) -> Data:
    return load_data(DataConfig(name="folder", root=str(root)), 32)


@pytest.fixture(scope="module")
def weights(data: Data) -> dict[str, Tensor]:
    """A good teacher: random features and a head that is fitted to them."""
    torch.manual_seed(0)
    model: Any = timm.create_model(MODEL, num_classes=len(COLORS)).eval()
    expert = Expert(model, Norm(data.mean, data.std)).eval()
    split = data.split("train")
    with torch.inference_mode():
        maps = model.forward_features(expert._prepared(split.images))
        features = model.forward_head(maps, pre_logits=True)
    x = torch.cat([features, torch.ones(len(features), 1)], 1)
    y = torch.nn.functional.one_hot(split.labels, len(COLORS)).float()
    solved = torch.linalg.lstsq(x.T @ x + 1e-3 * torch.eye(x.shape[1]), x.T @ y).solution
    state = dict(model.state_dict())
    return state | {"fc.weight": solved[:-1].T.contiguous(), "fc.bias": solved[-1].contiguous()}


def opened(data: Data, path: Path, weights: Mapping[str, Tensor]) -> Any:
    save_file(dict(weights), path)
    return open_teacher(data, TeacherConfig(model=MODEL, checkpoint=str(path)))


def test_a_good_teacher_is_let_through(
    data: Data, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    found = check_teacher(opened(data, tmp_path / "w.safetensors", weights), data)
    assert found.accuracy > 0.9 and found.chance == pytest.approx(0.25, abs=0.03)
    assert "is right in" in str(found)


def test_another_order_is_named(data: Data, weights: dict[str, Tensor], tmp_path: Path) -> None:
    order = [1, 2, 0, 3]
    moved = weights | {name: weights[name][order] for name in ("fc.weight", "fc.bias")}
    with pytest.raises(RunError, match="another order") as caught:
        check_teacher(opened(data, tmp_path / "w.safetensors", moved), data)
    message = str(caught.value)
    assert (
        "output 0 answers for 'ink', output 1 answers for 'red', output 2 answers for 'cyan':"
        in (message)
    )
    assert "data.classes" in message and "\n" not in message


def test_two_classes_in_each_others_place_do_not_pass(
    data: Data, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    """Half of the answers are right, far from chance, and all students would learn it wrong."""
    moved = weights | {name: weights[name][[1, 0, 2, 3]] for name in ("fc.weight", "fc.bias")}
    with pytest.raises(RunError, match="output 0 answers for 'ink', output 1 answers for 'cyan':"):
        check_teacher(opened(data, tmp_path / "w.safetensors", moved), data)


def test_chance_has_another_reason(data: Data, weights: dict[str, Tensor], tmp_path: Path) -> None:
    constant = weights | {"fc.weight": 0 * weights["fc.weight"]}
    with pytest.raises(RunError, match=r"right in .*, by chance .*: a checkpoint of other classes"):
        check_teacher(opened(data, tmp_path / "w.safetensors", constant), data)
    broken = weights | {"fc.bias": weights["fc.bias"] * float("nan")}
    with pytest.raises(RunError, match="not all finite"):
        check_teacher(opened(data, tmp_path / "w.safetensors", broken), data)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("seed", range(3))
def test_guesses_have_no_order(classes: int, seed: int) -> None:
    """With many classes the best order of guesses fits the images that it was made from."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(300) % classes
    found = judge(torch.randn(300, classes, generator=generator), labels)
    assert not found.in_another_order


def test_always_the_most_frequent_class_is_chance_and_more_is_not() -> None:
    labels = torch.tensor([0] * 240 + [1] * 60)
    constant = judge(torch.tensor([[1.0, 0.0]]).expand(300, 2), labels)
    assert constant.by_chance and constant.accuracy == 0.8
    answers = torch.nn.functional.one_hot(torch.tensor([0] * 240 + [1] * 40 + [0] * 20)).float()
    assert not judge(answers, labels).by_chance


class Bright(torch.nn.Module):
    """Takes bright images for those of the second class."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.scale * x.mean((1, 2, 3))
        return torch.stack([-seen, seen], 1)


@pytest.mark.parametrize("alternating", [True, False])
def test_the_order_of_the_images_says_nothing(alternating: bool) -> None:
    """A table may list its classes in turn, which equal steps through it would not see."""
    images = 1600
    places = torch.arange(images)
    labels = places % 2 if alternating else places // (images // 2)
    wrong = torch.rand(images, generator=torch.Generator().manual_seed(0)) < 0.08
    shades = (255 * torch.where(wrong, 1 - labels, labels)).byte()
    rows = shades[:, None, None, None].expand(-1, 1, 4, 4)
    both = dict.fromkeys(SPLITS, rows), dict.fromkeys(SPLITS, labels)
    two = Data("x", Images(("cat", "dog"), Look(4, 1, "crop"), *both))
    found = check_teacher(Bright(), two)
    assert found.chance == pytest.approx(0.5, abs=0.01)
    assert found.accuracy == pytest.approx(0.92, abs=0.02)
    other = judge(torch.eye(2)[1 - labels], labels)  # an order is found on half of them
    assert other.in_another_order


def test_best_order_is_the_inverse_of_a_permutation() -> None:
    order = torch.tensor([3, 0, 2, 1])
    labels = torch.arange(40) % 4
    assert best_order(order.argsort()[labels], labels, 4).tolist() == order.tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_images_are_shown_as_gray_in_the_colors_of_the_model(channels: int) -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model(MODEL, num_classes=2, in_chans=channels).eval()
    gray = torch.randint(0, 256, (5, 1, 160, 160), dtype=torch.uint8)
    norm = Norm((0.3,), (0.2,))
    own = Norm((0.5,) * channels, (0.5,) * channels)  # this model's
    with torch.inference_mode():
        expected = model(own(gray.expand(-1, channels, -1, -1)))
        assert torch.allclose(predict(Expert(model, norm), norm(gray)), expected, atol=1e-4)


def test_color_images_are_not_for_a_gray_model(data: Data, tmp_path: Path) -> None:
    model: Any = timm.create_model(MODEL, num_classes=len(COLORS), in_chans=1)
    with pytest.raises(RunError, match=r"takes images of 1 channel\(s\), the data has 3"):
        opened(data, tmp_path / "w.safetensors", model.state_dict())


class Code:
    """Stands for any object in a checkpoint."""


def wrong_files(folder: Path, weights: dict[str, Tensor]) -> dict[str, str]:
    """Bad checkpoints -> what is said about them."""

    def kept(name: str, held: Any) -> None:
        torch.save(held, folder / name)

    kept("code.pth", {"state_dict": weights, "args": Code()})
    kept("whole.pth", torch.nn.Linear(2, 2))
    kept("list.pth", [torch.zeros(2)])
    kept("nested.pth", {"net": weights, "epoch": 3})
    kept("good.pth", {"state_dict": {f"module.{n}": v for n, v in weights.items()}})
    raw = (folder / "good.pth").read_bytes()
    (folder / "half.pth").write_bytes(raw[: len(raw) // 2])
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.pth").write_text("<html>not found</html>")
    (folder / "half.safetensors").write_bytes(b"abc")
    (folder / "bad.npz").write_bytes(b"abc")
    head = {"fc.weight": torch.zeros(7, weights["fc.weight"].shape[1]), "fc.bias": torch.zeros(7)}
    kept("seven.pth", weights | head)
    kept("other.pth", timm.create_model("test_vit", num_classes=4).state_dict())
    kept(
        "few.pth", {n: v for n, v in weights.items() if n != "fc.bias"} | {"extra": torch.zeros(1)}
    )
    return {
        "nowhere.pth": "no such file",
        ".": "no such file",
        "code.pth": "holds Python objects",
        "whole.pth": "holds Python objects",
        "list.pth": "no checkpoint",
        "nested.pth": r"need tensors by name, .* got net, epoch",
        "half.pth": "damaged",
        "empty.pth": "damaged",
        "text.pth": "damaged",
        "half.safetensors": "damaged",
        "bad.npz": "bad.npz: ",
        "seven.pth": "with 7 classes, the data has 4",
        "other.pth": r"\d+ of \d+ do not fit: conv1\.\S+ is missing, .*, and \d+ more",
        "few.pth": r"2 of \d+ do not fit: fc.bias is missing, extra is unknown$",
    }


def test_checkpoints_that_cannot_be_used(
    data: Data, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    for name, message in wrong_files(tmp_path, weights).items():
        config = TeacherConfig(model=MODEL, checkpoint=str(tmp_path / name))
        with pytest.raises(RunError, match=message) as caught:
            open_teacher(data, config)
        assert "\n" not in str(caught.value), name
        assert "KeyError" not in str(caught.value), name
        assert str(caught.value).isprintable(), name
        assert name in str(caught.value)
    good = TeacherConfig(model=MODEL, checkpoint=str(tmp_path / "good.pth"))
    assert check_teacher(open_teacher(data, good), data).accuracy > 0.9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", r"no timm model is named 'resnet19'\. Did you mean"),
        ("weights/vit.pth", "got the path 'weights/vit.pth': .* are for start.checkpoint"),
        ("~/vit", "start.model: need the name"),
    ],
)
def test_names(name: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        check_name(name, "start.model", "start.checkpoint")


def test_weights_of_no_model() -> None:
    with pytest.raises(ConfigError, match=r"teacher\.checkpoint: weights of which"):
        load_config("digits", ["teacher.checkpoint=w.pth"])


@pytest.mark.parametrize("words", [["--dry-run"], []], ids=["dry run", "search"])
def test_all_is_found_before_anything_starts(
    words: list[str],
    root: Path,
    weights: dict[str, Tensor],
    tmp_path: Path,
    space_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file, good, moved = (tmp_path / n for n in ("run.yaml", "w.safetensors", "m.safetensors"))
    save_file(weights, good)
    order = [1, 2, 0, 3]
    save_file(weights | {"fc.weight": weights["fc.weight"][order].contiguous()}, moved)
    data = {"name": "folder", "root": str(root)}
    run = {"space": str(space_file), "data": data, "teacher": {"model": MODEL}}
    for changes, message in [
        ({"teacher.checkpoint": tmp_path / "nowhere.pth"}, "no such file"),
        ({"teacher.checkpoint": moved}, "another order"),
        ({"teacher.model": "resnet19"}, "teacher.model: no timm model"),
        ({}, "its weights cannot be had"),
    ]:
        file.write_text(yaml.safe_dump(run))
        options = [word for k, v in changes.items() for word in ("--set", f"{k}={v}")]
        result = invoke("search", file, "--run-dir", tmp_path / "run", *options, *words)
        assert isinstance(result.exception, RunError), result.output
        assert message in str(result.exception)
        assert not (tmp_path / "run").exists()


def test_a_dry_run_says_how_good_the_teacher_is(
    root: Path, weights: dict[str, Tensor], tmp_path: Path, space_file: Path
) -> None:
    good = tmp_path / "w.safetensors"
    save_file(weights, good)
    data = {"name": "folder", "root": str(root)}
    teacher = {"model": MODEL, "checkpoint": str(good)}
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"space": str(space_file), "data": data, "teacher": teacher}))
    result = invoke("search", file, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert f"teacher: {MODEL} is right in" in result.stderr
    assert '"teacher_accuracy": 1.0' in result.stdout or '"teacher_accuracy": 0.9' in result.stdout
