"""Divergence: how far the answers of a network are from those of another."""

from __future__ import annotations

from torch import Tensor


def divergence(teacher: Tensor, student: Tensor) -> float:
    """Mean Kullback-Leibler divergence of a student's answers from a teacher's, in nats.

    Args:
        teacher: logits (B, K).
        student: logits (B, K).
    """
    known = teacher.log_softmax(1)
    return (known.exp() * (known - student.log_softmax(1))).sum(1).mean().item()
