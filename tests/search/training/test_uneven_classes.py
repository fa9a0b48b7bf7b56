"""Training on classes of few images: weights and draws help them, and "none" is as before."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.nn import functional as F

from vitpareto.search.config import (
    Balance,
    DataConfig,
    DistillConfig,
    SupernetConfig,
    TeacherConfig,
    TrainConfig,
)
from vitpareto.search.data.balance import class_weights
from vitpareto.search.data.dataset import Data, Images
from vitpareto.search.data.loading import read_images
from vitpareto.search.scoring.scratch import ShortTraining
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.losses import SMOOTHING, Answer, Lesson, loss_of
from vitpareto.search.training.sandwich import ALONE, Sandwich
from vitpareto.search.training.supernet import from_scratch
from vitpareto.search.training.teacher import Lessons, predict, shuffled, train_teacher
from vitpareto.spaces import SearchSpace

FEW = 4  # train images of half of the classes, where the others have 90


@pytest.fixture(scope="module")
def thin() -> Data:
    """Digits, with few images of 5 to 9 to train on."""
    images = read_images(DataConfig(), 16)
    labels = images.labels["train"]
    kept = torch.cat([(labels == c).nonzero().flatten()[: 90 if c < 5 else FEW] for c in range(10)])
    return Data(
        "thin",
        Images(
            images.class_names,
            images.look,
            {**images.rows, "train": images.rows["train"][kept]},
            {**images.labels, "train": labels[kept]},
        ),
    )


def lessons_of(data: Data, balance: Balance) -> Lessons:
    """A teacher that knows every label and is a little unsure."""
    sure = F.one_hot(data.train_labels, 10) * 6.0
    noise = torch.randn(2, *sure.shape, generator=torch.Generator().manual_seed(0))
    return Lessons.of(data, sure + noise, balance=balance)


def test_without_balance_order_and_losses_are_what_they_were(thin: Data) -> None:
    """To the last bit those of 0.2, written out here."""
    found, labels = lessons_of(thin, "none"), thin.train_labels
    lessons = list(islice(found.batches(32, 2, 7), 20))
    generator = torch.Generator().manual_seed(7 << 20)
    order = torch.randperm(len(labels), generator=generator).chunk(-(-len(labels) // 32))
    for index, lesson in zip(order, lessons, strict=False):
        assert lesson.labels.equal(labels[index]) and lesson.weights is None
        logits = torch.randn(len(index), 10, generator=generator)
        told = F.cross_entropy(logits, lesson.labels, label_smoothing=SMOOTHING)
        soft = -(lesson.logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
        hard = F.cross_entropy(logits, lesson.logits.argmax(-1))
        answer = Answer((logits,), logits[:, None])
        for loss, taught in (("soft", soft), ("hard", hard)):
            assert loss_of(answer, lesson, DistillConfig(loss=loss)).equal(
                0.5 * told + 0.5 * taught
            )


@pytest.mark.parametrize("loss", ["soft", "hard", "token"])
def test_a_weight_of_two_is_the_image_twice(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images, logits, teacher = torch.zeros(3, 1, 4, 4), *torch.randn(2, 3, 4, generator=generator)
    labels, twice = torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1, 2])
    config = DistillConfig(loss=loss)

    def value(index: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        lesson = Lesson(images, labels, teacher, weights=weights)[index]
        return loss_of(Answer((logits[index],), logits[index][:, None]), lesson, config)

    found = value(torch.arange(3), torch.tensor([1.5, 0.75, 0.75]))
    assert torch.allclose(found, value(twice, None))


def test_every_image_brings_its_weight_and_keeps_it_in_parts(thin: Data) -> None:
    weights = class_weights(thin.train_labels)
    batches = list(lessons_of(thin, "weight").batches(32, 1, 0))
    order = shuffled(thin.train_labels, 32, 0, 0, "weight")
    for index, lesson in zip(order, batches, strict=True):
        assert lesson.weights is not None and lesson.weights.equal(weights[index])
        half = lesson[torch.arange(0, len(index), 2)].to(torch.device("cpu"))
        assert half.weights is not None and half.weights.equal(lesson.weights[::2])


def test_weights_hold_for_every_network_of_a_step(thin: Data, space: SearchSpace) -> None:
    """With a weight of 0 nobody learns, neither from labels and teacher nor from the largest."""
    config = SupernetConfig(batch_size=16)
    lesson = next(lessons_of(thin, "none").batches(16, 1, 0))
    for weight in (0.0, 1.0):
        supernet = from_scratch(space, 0)
        sandwich = Sandwich(supernet, lessons_of(thin, "none"), config, ALONE)
        drawn = [space.largest(), space.smallest()]
        sandwich.step(drawn, replace(lesson, weights=torch.full((16,), weight)))
        gradients = [p.grad.abs().sum() for p in supernet.parameters() if p.grad is not None]
        assert bool(sum(gradients) > 0) is bool(weight)


def test_sampling_gives_each_class_its_share_of_every_pass_and_goes_on_where_it_was(
    thin: Data,
) -> None:
    lessons = lessons_of(thin, "sample")
    batches = [lesson.labels for lesson in lessons.batches(32, 2, 0)]
    steps = lessons.steps(32, 1)
    for epoch in (batches[:steps], batches[steps:]):
        counts = torch.cat(epoch).bincount()
        assert counts.max() - counts.min() <= 1
    resumed = [lesson.labels for lesson in lessons.batches(32, 2, 0, steps + 3)]
    assert all(a.equal(b) for a, b in zip(resumed, batches[steps + 3 :], strict=True))


@pytest.mark.parametrize("way", ["weight", pytest.param("sample", marks=pytest.mark.slow)])
def test_a_teacher_learns_the_classes_of_few_images(thin: Data, way: Balance) -> None:
    """Measured: 0.49 without, 0.66 to 0.71 with weights, 0.67 to 0.83 drawn equally."""
    split, config = thin.split("validation"), TeacherConfig(epochs=3, batch_size=32)
    found = {
        balance: accuracy(
            predict(train_teacher(thin, config, 0, balance), split.images), split.labels
        )["balanced_accuracy"]
        for balance in ("none", way)
    }
    assert found[way] > found["none"] + 0.08


@pytest.mark.slow
@pytest.mark.parametrize("way", ["weight", "sample"])
def test_a_student_learns_the_classes_of_few_images(
    thin: Data, space: SearchSpace, way: Balance
) -> None:
    """Measured over three seeds: 0.49 to 0.52 without, 0.60 to 0.65 and 0.66 to 0.68 with."""
    split, config = thin.split("validation"), TrainConfig(batch_size=32, lr=3e-3)
    found = {
        balance: ShortTraining(lessons_of(thin, balance), split, config, 240, 0)(space.largest())[
            "balanced_accuracy"
        ]
        for balance in ("none", way)
    }
    assert found[way] > found["none"] + 0.05
