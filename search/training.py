"""What every training here shares: optimiser, schedule, soft labels and the check for NaN."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spaces.errors import RunError
from .config import TrainConfig

CLIP = 1.0  # norm of a gradient; sandwich steps sum four of them
WARMUP = 0.1  # share of the steps


class Optimiser:
    """AdamW with linear warm-up and a cosine to zero; matrices decay, biases and norms do not.

    Args:
        parameters: what is trained.
        config: learning rate and weight decay.
        steps: of the whole training.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: TrainConfig, steps: int) -> None:
        self.parameters = list(parameters)
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
        warm = max(1, round(WARMUP * steps))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._adamw,
            lambda step: min(
                (step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * min(1, step / steps))
            ),
        )

    def step(self) -> None:
        """Clip, update, and clear the gradients."""
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self._adamw.step()
        self._schedule.step()
        self._adamw.zero_grad(set_to_none=True)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of logits (B, K) against probabilities (B, K)."""
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def distillation_loss(logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    """Half cross entropy with labels (B,), half with the teacher's logits (B, K), both softened.

    Hinton et al., arXiv:1503.02531, at temperature 1, as DeiT's soft distillation.
    """
    hard = F.cross_entropy(logits, labels, label_smoothing=0.1)
    return 0.5 * hard + 0.5 * soft_cross_entropy(logits, teacher.softmax(-1))


def check_finite(loss: Tensor, what: str, step: int) -> float:
    """The loss as a number.

    Raises:
        RunError: it is NaN or infinite.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise RunError(f"{what}: the loss is {value} at step {step}; try a smaller lr")
    return value


def fast_matmul() -> contextlib.AbstractContextManager[object]:
    """bfloat16 autocast where the processor multiplies it natively, else nothing.

    Measured on AVX512-BF16: 2.5 times the speed for a network of 700 thousand parameters.
    """
    if torch.cpu._is_avx512_bf16_supported():  # pyright: ignore[reportPrivateUsage]
        return torch.autocast("cpu", torch.bfloat16)
    return contextlib.nullcontext()
