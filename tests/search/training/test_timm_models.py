"""Ready models of timm as teachers."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.search.data.pictures import colors, folder
from vitpareto.search.config import DataConfig, TeacherConfig
from vitpareto.search.data.loading import load_data
from vitpareto.search.training.teacher import make_lessons, predict, train_teacher
from vitpareto.spaces.errors import RunError

NAME = "vit_tiny_patch16_224"


def checkpoint(path: Path, classes: int, **options: int) -> str:
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=classes, **options)
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


def test_a_timm_teacher_sees_images_at_the_size_of_its_checkpoint(tmp_path: Path) -> None:
    data = load_data(DataConfig(name="folder", root=str(folder(tmp_path / "set", each=8))), 32)
    path = checkpoint(tmp_path / "vit.safetensors", 2, img_size=96)
    teacher = train_teacher(data, TeacherConfig(model=NAME, checkpoint=path, img_size=96), 0)
    assert teacher.size == 96
    assert teacher.tokens(data.split("search").images[:1]).shape == (1, 36, 192)
    with pytest.raises(RunError, match="pos_embed is 1x37x192 instead of 1x197x192"):
        train_teacher(data, TeacherConfig(model=NAME, checkpoint=path), 0)


def test_teachers_that_do_not_fit(tmp_path: Path) -> None:
    data = load_data(DataConfig(name="folder", root=str(folder(tmp_path / "set"))), 8)
    path = checkpoint(tmp_path / "vit.safetensors", 3)
    with pytest.raises(RunError, match=r"vit.safetensors: .* with 3 classes, the data has 2"):
        train_teacher(data, TeacherConfig(model=NAME, checkpoint=path), 0)
    with pytest.raises(
        RunError,
        match=r"no timm model is named 'vit_tini'\. (Did you|The nearest: \w+, \w+, \w+\.)",
    ):
        train_teacher(data, TeacherConfig(model="vit_tini"), 0)
