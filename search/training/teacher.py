"""The teacher: a small hybrid trained here or a timm model, and its logits for every view."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from ...spaces import Architecture, Block, Stage
from ...spaces.networks import Network
from ..config import Balance, DistillConfig, TeacherConfig
from ..console import progress, stop_request
from ..data.augment import Norm, Views
from ..data.balance import class_weights, drawn_equally
from ..data.dataset import Data, Split, resized
from .checkpoint import Checkpoint, State
from .losses import Answer, Lesson, Streams, label_loss, loss_of
from .optimizer import Optimizer, check_finite, fast_matmul, finite, torch_device
from .pace import Limit, Schedule
from .parts import Parts

SOFT = DistillConfig()
FASTER = torch.channels_last  # 1.5 times the speed on a CPU
BATCH = 64  # images at once where no gradient is kept, so that activations stay in the cache


def teacher_architecture(in_chans: int, num_classes: int, input_size: int) -> Architecture:
    """Convolutions on three grids and attention on the last, where it is cheap.

    The stem makes the first grid about 16x16, whatever the size of the images: between 12x12 and
    24x24. As it halves images and each of two stages does, they are seen at the nearest size
    that allows it.
    """
    widths, patch = (32, 64, 128), max(2, 2 ** round(math.log2(input_size / 16)))
    multiple = 4 * patch
    input_size = max(1, round(input_size / multiple)) * multiple
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


class Teacher(Network):
    """A teacher of our own kind, such as the one trained here; it takes images of any size."""

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, N, D)."""
        return super().forward_features(resized(x, self.architecture.input_size))

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, N, D), class tokens left out."""
        return self.forward_features(x)[:, self.architecture.prefix :]


def open_teacher(data: Data, config: TeacherConfig) -> nn.Module:
    """The teacher before any training here: new, or one of timm's that needs none.

    It has a method `tokens` beside its logits.

    Raises:
        RunError: timm has no such model, or not with these classes.
    """
    if not config.model:
        return Teacher(teacher_architecture(data.in_chans, data.num_classes, data.input_size))
    from .timm_models import Expert, load_teacher

    model = load_teacher(config, data.num_classes)
    return Expert(model, Norm(data.mean, data.std)).eval()


def train_teacher(
    data: Data,
    config: TeacherConfig,
    seed: int,
    balance: Balance = "none",
    limit: Limit | None = None,
) -> nn.Module:
    """The teacher; one of our own is trained on the train split with labels alone.

    Args:
        data: images and labels.
        config: recipe, or the name of a ready one.
        seed: of initial weights and the order of the images.
        balance: what is done about classes of few images.
        limit: keeps the training to a time; without one it makes the passes of the recipe.

    Raises:
        RunError: the loss is no number, or as `open_teacher`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = open_teacher(data, config)
    network.to(torch_device())
    if config.model:
        return network
    network = network.to(memory_format=FASTER)
    views, labels = data.views(), data.train_labels
    weights = class_weights(labels) if balance == "weight" else None
    each = batches_in(len(labels), config.batch_size)
    schedule = Schedule(config.epochs * each, each, limit)
    optimizer = Optimizer(network.named_parameters(), config, schedule.steps)
    network.train()
    parts = Parts("teacher")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in count():
            order = shuffled(labels, config.batch_size, seed, epoch, balance)
            yield from zip(order, views.batches(epoch, order), strict=True)

    with progress(schedule.steps, "teacher") as bar:
        for index, images in batches():
            counted = None if weights is None else weights[index]
            loss = teach(network, optimizer, parts, images, labels[index], counted)
            schedule.follow(optimizer)
            bar.set_postfix(loss=loss, refresh=False)
            bar.update(schedule.share(optimizer.done) - bar.n)
            if optimizer.done >= schedule.steps:
                break
    network.load_state_dict(network.state_dict() | optimizer.average)
    return network.to(memory_format=torch.contiguous_format).eval()


def teach(
    network: nn.Module,
    optimizer: Optimizer,
    parts: Parts,
    images: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
) -> float:
    """Train the teacher for a step; the loss.

    Raises:
        RunError: the loss or a gradient is no number, or memory does not suffice for a single
            image.
    """
    device = torch_device()

    def loss(part: Tensor) -> Tensor:
        with fast_matmul(device):
            logits = network(images[part].to(device)).float()
        counted = None if weights is None else weights[part].to(device)
        return label_loss(logits, labels[part].to(device), counted)

    mean = parts.backward(len(labels), loss, optimizer)
    value = check_finite(mean, "teacher", optimizer.done)
    with finite("teacher"):
        optimizer.step()
    return value


def answers(teacher: nn.Module, images: Tensor) -> Tensor:
    """Logits of a view of some images, to three digits: (N, C, S, S) -> (N, K)."""
    with fast_matmul(torch_device()):  # around the network alone: views stay as they are
        return predict(teacher, images)


@torch.inference_mode()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits in float32: (N, C, S, S) -> (N, K)."""
    device = next(network.parameters()).device
    batches = [network(batch.to(device)).float().cpu() for batch in images.split(BATCH)]
    return torch.cat(batches)


def logits_on(network: nn.Module, split: Split) -> Tensor:
    """Logits in float32 on a whole split (N, K)."""
    return torch.cat([predict(network, images) for images in split.batches(BATCH)])


@dataclass(frozen=True)
class Lessons:
    """Images and labels from which students learn, with the teacher's logits.

    Attributes:
        views: images of any view of the train split.
        labels: (N,).
        teacher: its logits for every view (V, N, K), so that no student runs it again.
        config: of the losses.
        network: the teacher, which is run again only for losses on features.
        balance: whether classes of few images count or come more often.
        layers: loss on the stream of a student for some images, if any.
    """

    views: Views
    labels: Tensor
    teacher: Tensor
    config: DistillConfig = SOFT
    network: Any = None
    balance: Balance = "none"
    layers: Callable[[Streams, Tensor], Tensor] | None = None

    @classmethod
    def of(
        cls,
        data: Data,
        teacher: Tensor,
        config: DistillConfig = SOFT,
        network: Any = None,
        balance: Balance = "none",
    ) -> Lessons:
        """The lessons behind cached logits (V, N, K); their views are made again."""
        return cls(data.views(), data.train_labels, teacher, config, network, balance)

    def batches(self, batch_size: int, epochs: int, seed: int, start: int = 0) -> Iterator[Lesson]:
        """Batches from step `start` on; each epoch sees the next view of every image."""
        weights = class_weights(self.labels) if self.balance == "weight" else None
        first, skipped = divmod(start, batches_in(len(self.labels), batch_size))
        for epoch in range(first, epochs):
            view = epoch % len(self.teacher)
            order = shuffled(self.labels, batch_size, seed, epoch, self.balance)[skipped:]
            skipped = 0
            for index, images in zip(order, self.views.batches(view, order), strict=True):
                logits = self.teacher[view, index].float()
                counted = None if weights is None else weights[index]
                yield Lesson(images, self.labels[index], logits, self.tokens(images), counted)

    def steps(self, batch_size: int, epochs: int) -> int:
        """Number of batches."""
        return epochs * batches_in(len(self.labels), batch_size)

    @property
    def looks_inside(self) -> bool:
        """Whether the loss needs what each block of the student leaves."""
        return self.layers is not None

    def loss(self, answer: Answer, lesson: Lesson) -> Tensor:
        """Loss of a student that learns from labels and teacher."""
        loss = loss_of(answer, lesson.to(answer.tokens.device), self.config)
        if self.layers is None:
            return loss
        assert answer.streams
        return loss + self.layers(answer.streams, lesson.images)

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor | None:
        """Tokens of the teacher for some images, if a loss looks at them."""
        if self.network is None or not self.config.looks_inside:
            return None
        device = torch_device()
        with fast_matmul(device):
            return self.network.to(device).tokens(images.to(device)).float()


def make_lessons(
    data: Data, teacher: nn.Module, views: int, checkpoint: Checkpoint | None = None
) -> Lessons:
    """Views of the train split with the teacher's logits, to three digits; the same every time.

    Args:
        data: whose train images are shown.
        teacher: that answers.
        views: of each image.
        checkpoint: where the answers are kept as they are made, to go on from if it is stopped.

    Raises:
        RunError: the checkpoint is of something else, or cannot be written.
        KeyboardInterrupt: as asked, after the checkpoint was written if there is one.
    """
    made, n = data.views(), len(data.train_labels)
    teacher = copy.deepcopy(teacher).to(memory_format=FASTER)
    state = checkpoint.load() if checkpoint else None
    logits = [state.tensors["logits"][: views * n]] if state else []  # (views * n, K) in the end
    done = len(logits[0]) if logits else 0
    with progress(views * n, "teacher's answers", "image") as bar, stop_request() as asked:
        bar.update(done)
        for view in range(done // n, views):
            left = torch.arange(max(done - view * n, 0), n).split(BATCH)
            for images in made.batches(view, left):
                logits.append(answers(teacher, images))
                bar.update(len(images))
                if checkpoint and (asked.is_set() or checkpoint.due()):
                    logits = [torch.cat(logits)]
                    checkpoint.save(State(len(logits[0]), {"logits": logits[0]}, {}))
                if asked.is_set():
                    raise KeyboardInterrupt
    return Lessons(made, data.train_labels, torch.cat(logits).unflatten(0, (views, n)))


def batches_in(images: int, batch_size: int) -> int:
    """Batches of one pass."""
    return -(-images // batch_size)


def shuffled(
    labels: Tensor, batch_size: int, seed: int, epoch: int, balance: Balance = "none"
) -> Sequence[Tensor]:
    """Indices of each batch of one pass, a function of labels, seed and epoch alone.

    Batches are as large as each other, but for one image: batch norms behind pooling cannot learn
    from a last batch of a single one.
    """
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    if balance == "sample":
        order = drawn_equally(labels, generator)
    else:
        order = torch.randperm(len(labels), generator=generator)
    return order.tensor_split(batches_in(len(labels), batch_size))
