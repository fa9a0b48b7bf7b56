"""Batches of a pass: every image once, and none of a size from which batch norms cannot learn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vitpareto.search.training.teacher import batches_in, shuffled
from vitpareto.spaces.convert import from_model

from ...shared import slim_efficientvit_msra, slim_levit


@pytest.mark.parametrize("images", [1, 2, 3, 31, 64, 65, 97, 992, 1025, 4033])
@pytest.mark.parametrize("size", [3, 32, 64])
def test_batches_are_of_one_size_but_for_one_image(images: int, size: int) -> None:
    batches = shuffled(torch.zeros(images, dtype=torch.long), size, seed=1, epoch=2)
    sizes = [len(index) for index in batches]
    assert torch.cat([*batches]).sort().values.equal(torch.arange(images))
    assert len(sizes) == batches_in(images, size) and max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("make", [slim_levit, slim_efficientvit_msra])
def test_batch_norms_behind_pooling_learn_from_every_batch(make: Callable[[], Any]) -> None:
    """Of 65 images in batches of 8, the last was a single one."""
    network = from_model(make().eval()).train()
    a = network.architecture
    for index in shuffled(torch.zeros(65, dtype=torch.long), 8, seed=0, epoch=0):
        images = torch.randn(len(index), a.in_chans, a.input_size, a.input_size)
        assert network(images).isfinite().all()
