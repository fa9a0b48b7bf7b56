"""The small teacher takes images of any size that a space may ask for."""

import pytest
import torch

from vitpareto.search.training.teacher import Teacher, teacher_architecture


@pytest.mark.parametrize(
    "size", [*range(16, 64, 2), 72, 96, 100, 112, 160, 196, 224, 299, 384, 512]
)
def test_every_size(size: int) -> None:
    a = teacher_architecture(3, 5, size)
    assert 12 <= a.grid <= 24 or size < 24
    assert 0.7 < a.input_size / size < 1.5
    with torch.no_grad():
        assert Teacher(a)(torch.randn(1, 3, size, size)).shape == (1, 5)


@pytest.mark.parametrize("size", [16, 50, 299])
def test_it_learns_at_any_size(size: int) -> None:
    teacher = Teacher(teacher_architecture(3, 5, size))
    teacher(torch.randn(2, 3, size, size)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in teacher.parameters())
