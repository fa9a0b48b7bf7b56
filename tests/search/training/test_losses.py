"""Losses: each falls to its least where the student matches, and gradients keep the peace."""

import pytest
import torch
from torch.nn import functional as F

from vitpareto.search.config import DistillConfig
from vitpareto.search.training.losses import (
    SMOOTHING,
    Answer,
    Lesson,
    attention_loss,
    loss_of,
    relation_loss,
    soft_cross_entropy,
    without_conflict,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def lesson() -> Lesson:
    return Lesson(random(8, 1, 4, 4), torch.arange(8) % 3, random(8, 3, seed=1))


def test_soft_cross_entropy_is_kullback_leibler_and_a_constant() -> None:
    logits, target = random(8, 3), random(8, 3, seed=1).softmax(-1)
    entropy = -(target * target.log()).sum(-1).mean()
    found = soft_cross_entropy(logits, target) - entropy
    assert torch.allclose(found, F.kl_div(logits.log_softmax(-1), target, reduction="batchmean"))


def test_soft_and_hard_differ_in_what_the_teacher_says(lesson: Lesson) -> None:
    logits, tokens = random(8, 3, seed=2), random(8, 4, 5)
    labels = F.cross_entropy(logits, lesson.labels, label_smoothing=SMOOTHING)
    soft = loss_of(Answer((logits,), tokens), lesson, DistillConfig())
    hard = loss_of(Answer((logits,), tokens), lesson, DistillConfig(loss="hard"))
    decision = F.cross_entropy(logits, lesson.logits.argmax(-1))
    assert torch.allclose(
        soft, (labels + soft_cross_entropy(logits, lesson.logits.softmax(-1))) / 2
    )
    assert torch.allclose(hard, (labels + decision) / 2)


def test_the_distillation_token_learns_from_the_teacher_alone(lesson: Lesson) -> None:
    heads = tuple(random(8, 3, seed=s).requires_grad_() for s in (2, 3))
    answer = Answer(heads, random(8, 4, 5))
    assert answer.mean.equal((heads[0] + heads[1]) / 2)
    loss = loss_of(answer, lesson, DistillConfig(loss="token"))
    of_class, of_token = torch.autograd.grad(loss, heads)
    other = Lesson(lesson.images, (lesson.labels + 1) % 3, lesson.logits)
    again = torch.autograd.grad(loss_of(answer, other, DistillConfig(loss="token")), heads)
    assert not again[0].equal(of_class) and again[1].equal(of_token)
    other = Lesson(lesson.images, lesson.labels, lesson.logits.roll(1, 1))
    again = torch.autograd.grad(loss_of(answer, other, DistillConfig(loss="token")), heads)
    assert again[0].equal(of_class) and not again[1].equal(of_token)


@pytest.mark.parametrize("loss", [relation_loss, attention_loss])
def test_inner_losses_are_zero_for_the_same_and_above_for_others(loss) -> None:
    tokens = random(8, 16, 12).abs()
    assert loss(tokens, tokens) < 1e-12
    assert loss(3 * tokens, tokens) < 1e-12  # scale says nothing
    other = random(8, 4, 7, seed=5).requires_grad_()  # another grid and width
    found = loss(other, tokens)
    assert found > 1e-3
    found.backward()
    assert other.grad is not None and other.grad.abs().sum() > 0


def test_attention_is_about_places_and_relations_about_images() -> None:
    tokens = random(8, 16, 12)
    shuffled = tokens[:, torch.randperm(16, generator=torch.Generator().manual_seed(1))]
    assert attention_loss(shuffled, tokens) > 1e-3
    assert relation_loss(shuffled, tokens) < 1e-9
    assert relation_loss(tokens.flip(0), tokens) > 1e-3


def test_where_a_network_looks_is_told_behind_its_last_norm() -> None:
    """Which gives all tokens the same length, so that their energy is no map."""
    given = random(8, 16, 12).requires_grad_()
    normed, told = F.layer_norm(given, (12,)), F.layer_norm(random(8, 4, 20, seed=1), (20,))
    loss = attention_loss(normed, told)
    (gradient,) = torch.autograd.grad(loss, given)
    assert loss > 1e-2 and gradient.norm() > 1e-3


def test_dropped_tokens_have_no_grid() -> None:
    assert attention_loss(random(8, 15, 12), random(8, 16, 12)) == 0


def test_inner_losses_count_by_their_weight(lesson: Lesson) -> None:
    answer, told = Answer((random(8, 3, seed=2),), random(8, 4, 5)), random(8, 16, 9, seed=4)
    lesson = Lesson(lesson.images, lesson.labels, lesson.logits, told)
    base, features, both = (
        loss_of(answer, lesson, DistillConfig(features=f, attention=a))
        for f, a in ((0, 0), (2, 0), (2, 3))
    )
    assert torch.allclose(features - base, 2 * relation_loss(answer.tokens, told))
    assert torch.allclose(both - features, 3 * attention_loss(answer.tokens, told))


@pytest.mark.parametrize("seed", range(20))
def test_no_conflict_is_left(seed: int) -> None:
    """What is left of the first gradient does not work against the others."""
    first, others = random(50, seed=seed), random(50, seed=seed + 100)
    (total,) = without_conflict([first], [others])
    kept = total - others
    dot = first @ others
    if dot >= 0:
        assert torch.allclose(kept, first)
    elif (first @ others).abs() <= 2 * others @ others:
        assert kept @ others == pytest.approx(0, abs=1e-4)
    assert kept @ others >= dot - 1e-5


def test_gradients_that_only_one_side_has() -> None:
    g = random(5)
    assert without_conflict([g, None, None], [None, g, None]) == [g, g, None]
