"""Image folders: read as they are, and every way in which they can be wrong has its words."""

import logging
import signal
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from vitpareto.search.config import DataConfig, TeacherConfig
from vitpareto.search.data.dataset import SPLITS, load_data
from vitpareto.search.data.image_sources import Streamed
from vitpareto.search.training.teacher import make_lessons, predict, train_teacher
from vitpareto.spaces.errors import RunError


def picture(path: Path, seed: int, mode: str = "RGB", side: int = 20) -> None:
    """A picture in which every pixel has the same color, which is made of its seed."""
    color = np.array([seed % 256, (seed * 7) % 256, (seed * 31) % 256], dtype=np.uint8)
    pixels = np.broadcast_to(color, (side, side + 6, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).convert(mode).save(path)


def folder(root: Path, each: int = 20, classes: str = "ab", mode: str = "RGB", at: int = 0) -> Path:
    for k, name in enumerate(classes):
        for i in range(each):
            picture(root / name / f"{i}.png", at + 100 * k + i, mode)
    return root


def colors(images: torch.Tensor, data) -> torch.Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in (data.mean, data.std))
    return (images * std + mean).mul(255).round()


def test_every_image_is_in_one_split_under_its_label(tmp_path: Path) -> None:
    data = load_data(DataConfig(name="folder", root=str(folder(tmp_path / "set"))), 8)
    assert (data.name, data.class_names, data.in_chans) == ("set", ("a", "b"), 3)
    seen = []
    for name in SPLITS:
        split = data.split(name)
        assert split.images.shape[1:] == (3, 8, 8)
        red = colors(split.images, data)[:, 0]
        assert (red == red[:, :1, :1]).all(), "a plain picture stays plain"
        assert split.labels.equal((red[:, 0, 0] >= 100).long())
        seen += red[:, 0, 0].tolist()
    assert sorted(seen) == [float(100 * k + i) for k in range(2) for i in range(20)]


def test_a_test_folder_is_the_test_split(tmp_path: Path) -> None:
    folder(tmp_path / "train")
    folder(tmp_path / "test", each=5, at=50)
    data = load_data(DataConfig(name="folder", root=str(tmp_path)), 8)
    test = data.split("test")
    assert sorted(colors(test.images, data)[:, 0, 0, 0].tolist()) == [
        float(v) for v in (*range(50, 55), *range(150, 155))
    ]
    assert len(data.train_labels) == 40 - len(data.split("search")) - len(data.split("validation"))
    folder(tmp_path / "test", each=5, classes="c")
    with pytest.raises(RunError, match="classes of train and test differ: c"):
        load_data(DataConfig(name="folder", root=str(tmp_path), seed=1), 8)


def test_gray_images_have_one_channel(tmp_path: Path) -> None:
    data = load_data(DataConfig(name="folder", root=str(folder(tmp_path, mode="L"))), 8)
    assert data.in_chans == 1


def test_what_does_not_fit_into_memory_is_streamed(tmp_path: Path) -> None:
    """The same splits and labels; views are made on the way and repeat."""
    config = DataConfig(name="folder", root=str(folder(tmp_path)), workers=0)
    whole = load_data(config, 256)
    streamed = load_data(config.model_copy(update={"memory_mb": 1}), 256)
    assert isinstance(streamed.views(), Streamed)
    assert whole.train_labels.equal(streamed.train_labels)
    for name in ("search", "validation"):
        assert torch.allclose(
            colors(whole.split(name).images, whole), colors(streamed.split(name).images, streamed)
        )
    chunks = torch.arange(len(whole.train_labels)).split(4)
    views = [torch.cat([*streamed.views().batches(v, chunks)]) for v in (0, 0, 1)]
    assert views[0].equal(views[1]) and not views[0].equal(views[2])
    workers = load_data(config.model_copy(update={"memory_mb": 1, "workers": 1}), 256)
    assert torch.cat([*workers.views().batches(0, chunks)]).equal(views[0])
    state = torch.random.get_rng_state()
    next(iter(streamed.views().batches(3, chunks)))
    assert torch.random.get_rng_state().equal(state), "reading images must not disturb training"
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL  # loaders with workers change it


def test_broken_images_are_named_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path)
    (tmp_path / "a" / "3.png").write_bytes(b"no picture")
    whole = (tmp_path / "b" / "4.png").read_bytes()
    (tmp_path / "b" / "4.png").write_bytes(whole[: len(whole) // 2])
    config = DataConfig(name="folder", root=str(tmp_path), broken=0.05)
    with caplog.at_level(logging.WARNING, "vitpareto"):
        data = load_data(config, 8)
    assert "skipped 2 of 40 images" in caplog.text
    assert "3.png" in caplog.text and "4.png" in caplog.text
    assert sum(len(data.split(name)) for name in SPLITS) == 38
    with pytest.raises(RunError, match=r"2 of 40 images are broken: .*3\.png.*a share of 0\.01"):
        load_data(config.model_copy(update={"broken": 0.01}), 8)


def test_a_broken_image_in_a_stream_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path)
    for i in range(20):
        if i % 4 == 0:
            (tmp_path / "a" / f"{i}.png").write_bytes(b"no picture")
    config = DataConfig(name="folder", root=str(tmp_path), broken=0.5, memory_mb=1, workers=0)
    data = load_data(config, 256)
    chunks = torch.arange(len(data.train_labels)).split(8)
    views = torch.cat([*data.views().batches(0, chunks)])
    assert len(views) == len(data.train_labels) and "skipped" in caplog.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "has none"),
        (lambda root: folder(root, classes="a"), "two or more classes, has 'a'"),
        (lambda root: (folder(root), (root / "c").mkdir()), "class folder .*c has no images"),
        (lambda root: folder(root, each=3), "class 'a' has too few images for the search split"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, make, message: str) -> None:
    root = tmp_path / "set"
    make(root)
    with pytest.raises(RunError, match=message):
        load_data(DataConfig(name="folder", root=str(root)), 8)


def test_data_sets_that_timm_does_not_have() -> None:
    with pytest.raises(RunError, match="torch/nothing"):
        load_data(DataConfig(name="torch/nothing"), 8)


def test_a_limit_takes_the_same_number_of_each_class(tmp_path: Path) -> None:
    data = load_data(DataConfig(name="folder", root=str(folder(tmp_path)), limit=24), 8)
    total = torch.cat([data.split(name).labels for name in SPLITS])
    assert total.bincount().tolist() == [12, 12]


NAME = "vit_tiny_patch16_224"


def checkpoint(path: Path, classes: int) -> str:
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=classes)
    save_file(model.state_dict(), path)
    return str(path)


def test_a_timm_teacher_speaks_from_its_checkpoint(tmp_path: Path) -> None:
    data = load_data(DataConfig(name="folder", root=str(folder(tmp_path / "set", each=8))), 32)
    config = TeacherConfig(model=NAME, checkpoint=checkpoint(tmp_path / "vit.safetensors", 2))
    teacher = train_teacher(data, config, 0)
    images = data.split("search").images
    pixels = colors(images, data) / 255
    own = timm.create_model(NAME, num_classes=2).eval()
    own.load_state_dict(teacher.model.state_dict())
    larger = torch.nn.functional.interpolate(pixels, (224, 224), mode="bicubic", antialias=True)
    with torch.inference_mode():
        expected = own((larger - 0.5) / 0.5)
        assert torch.allclose(predict(teacher, images), expected, atol=1e-3)
        assert teacher.tokens(images).shape == (len(images), 196, 192)
    assert make_lessons(data, teacher, 1).teacher.shape == (1, len(data.train_labels), 2)


def test_teachers_that_do_not_fit(tmp_path: Path) -> None:
    data = load_data(DataConfig(name="folder", root=str(folder(tmp_path / "set"))), 8)
    path = checkpoint(tmp_path / "vit.safetensors", 3)
    with pytest.raises(RunError, match=r"vit.safetensors: .* with 3 classes, the data has 2"):
        train_teacher(data, TeacherConfig(model=NAME, checkpoint=path), 0)
    with pytest.raises(
        RunError, match=r"no timm model is named 'vit_tini'\. (Did you|Known: \w+, \w+, \w+\.)"
    ):
        train_teacher(data, TeacherConfig(model="vit_tini"), 0)
