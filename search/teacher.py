"""The teacher: a small hybrid network trained here, and what it says about every view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..spaces import Architecture, Block, Stage
from ..spaces.networks import Network
from .augment import augmented
from .config import TrainConfig
from .data import Data
from .progress import progress
from .training import Optimiser, check_finite, fast_matmul

BATCH = 256  # images at once where no gradient is kept


def teacher_architecture(in_chans: int, num_classes: int, input_size: int) -> Architecture:
    """Convolutions on three grids and attention on the last, where it is cheap.

    The stem makes the first grid 16x16, whatever the size of the images.
    """
    widths, patch = (32, 64, 128), max(2, input_size // 16)
    convolutions = [Block("mbconv", kernel_size=3, mlp_hidden=3 * w) for w in widths]
    attention = Block("softmax", num_heads=4, head_dim=32, mlp_hidden=2 * widths[-1])
    return Architecture(
        stages=(
            Stage(widths[0], (convolutions[0],) * 2),
            Stage(widths[1], (convolutions[1],) * 2),
            Stage(widths[2], (convolutions[2], attention)),
        ),
        input_size=input_size,
        in_chans=in_chans,
        num_classes=num_classes,
        stem="conv",
        patch_size=patch,
        pos_embed="none",
        global_pool="avg",
    )


def train_teacher(data: Data, config: TrainConfig, seed: int) -> Network:
    """A network trained on the train split with labels alone.

    Raises:
        RunError: the loss is no number.
    """
    train = data.split("train")
    torch.manual_seed(seed)
    size = train.images.shape[-1]
    network = Network(teacher_architecture(data.in_chans, data.num_classes, size))
    batches = -(-len(train) // config.batch_size)
    optimiser = Optimiser(network.parameters(), config, config.epochs * batches)
    network.train()
    with progress(config.epochs * batches, "teacher") as bar:
        for epoch in range(config.epochs):
            images = augmented(train.images, seed + epoch)
            order = torch.randperm(len(train)).chunk(batches)
            for index in order:
                with fast_matmul():
                    logits = network(images[index])
                loss = F.cross_entropy(logits.float(), train.labels[index], label_smoothing=0.1)
                loss.backward()
                optimiser.step()
                bar.set_postfix(loss=check_finite(loss, "teacher", bar.n), refresh=False)
                bar.update()
    return network.eval()


@torch.inference_mode()
def predict(network: torch.nn.Module, images: Tensor) -> Tensor:
    """Logits in float32: (N, C, S, S) -> (N, K)."""
    return torch.cat([network(batch) for batch in images.split(BATCH)])


@dataclass(frozen=True, slots=True)
class Lessons:
    """What students learn from.

    Attributes:
        views: augmented train images (V, N, C, S, S); view v was made with seed v.
        labels: (N,).
        teacher: its logits for every view (V, N, K), so that no student runs it again.
    """

    views: Tensor
    labels: Tensor
    teacher: Tensor

    @classmethod
    def of(cls, data: Data, teacher: Tensor) -> Lessons:
        """The lessons behind cached logits (V, N, K); their views are made again."""
        return cls(_views(data, len(teacher)), data.split("train").labels, teacher)

    def batches(
        self, batch_size: int, epochs: int, seed: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images, labels and teacher logits; each epoch sees the next view of every image."""
        generator = torch.Generator().manual_seed(seed)
        for epoch in range(epochs):
            view = epoch % len(self.views)
            order = torch.randperm(len(self.labels), generator=generator)
            for index in order.chunk(-(-len(order) // batch_size)):
                yield self.views[view, index], self.labels[index], self.teacher[view, index]

    def steps(self, batch_size: int, epochs: int) -> int:
        """Number of batches."""
        return epochs * -(-len(self.labels) // batch_size)


def make_lessons(data: Data, teacher: Network, views: int) -> Lessons:
    """Views of the train split with the teacher's logits; the same every time."""
    images = _views(data, views)
    logits = torch.stack([predict(teacher, view) for view in images])
    return Lessons(images, data.split("train").labels, logits)


def _views(data: Data, n: int) -> Tensor:
    images = data.split("train").images
    return torch.stack([augmented(images, seed) for seed in range(n)])
