"""Parts of every training: optimizer, average, precision, and the check for NaN."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Mapping

import torch
from torch import Tensor, nn

from ...spaces.errors import RunError
from ..config import TrainConfig

CLIP = 1.0  # norm of a gradient; sandwich steps sum four of them
WARMUP = 0.1  # share of the steps
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Optimizer:
    """AdamW with linear warm-up and a cosine to zero; matrices decay, biases and norms do not.

    Args:
        parameters: what is trained, by name.
        config: learning rate, weight decay and decay of the average.
        steps: of the whole training.
        scale: factor of the learning rate of a parameter, by its name; 1 for all by default.

    Attributes:
        done: steps so far.
        average: exponential moving average of the parameters by name; empty without `config.ema`.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        config: TrainConfig,
        steps: int,
        scale: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        self.parameters = dict(parameters)
        self.done, self._steps, self._config = 0, steps, config
        alike: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            alike.setdefault((parameter.ndim > 1, scale(name)), []).append(parameter)
        groups = [
            {"params": some, "weight_decay": config.weight_decay * decays, "scale": factor}
            for (decays, factor), some in alike.items()
        ]
        self._adamw = torch.optim.AdamW(groups, lr=config.lr, fused=True)
        kept = self.parameters if config.ema else {}
        self.average = {name: p.detach().clone() for name, p in kept.items()}

    def step(self) -> None:
        """Clip, update, average, and clear the gradients.

        Raises:
            ArithmeticError: a gradient is NaN or infinite; nothing was updated.
        """
        values = list(self.parameters.values())
        norm = nn.utils.clip_grad_norm_(values, CLIP)
        if not math.isfinite(norm.item()):
            self.clear()
            raise ArithmeticError(f"the gradient is {norm.item()}")
        for group in self._adamw.param_groups:
            group["lr"] = self._config.lr * group["scale"] * self._factor()
        self._adamw.step()
        self.clear()
        self.done += 1
        if self.average:
            # Early weights are forgotten fast, as in TensorFlow's ExponentialMovingAverage.
            decay = min(self._config.ema, (1 + self.done) / (10 + self.done))
            with torch.no_grad():
                for average, value in zip(self.average.values(), values, strict=True):
                    average.lerp_(value, 1 - decay)

    def resize(self, done: int, steps: int) -> None:
        """Go on at another step of a schedule of another length."""
        self.done, self._steps = done, steps

    def clear(self) -> None:
        """Forget the gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def followers(self) -> list[Mapping[str, Tensor]]:
        """What lies beside the parameters element by element, by their names: moments, average."""
        states = {name: self._adamw.state.get(p, {}) for name, p in self.parameters.items()}
        moments = [
            {name: state[moment] for name, state in states.items() if moment in state}
            for moment in MOMENTS[:2]
        ]
        return [*moments, self.average]

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and average by name, for safetensors; see `done` for the step."""
        tensors = {f"average.{name}": value for name, value in self.average.items()}
        for name, parameter in self.parameters.items():
            state = self._adamw.state.get(parameter, {})
            tensors |= {f"{moment}.{name}": value for moment, value in state.items()}
        return tensors

    def load_state_dict(self, state: Mapping[str, Tensor], done: int) -> None:
        """Inverse of `state_dict`, at a step."""
        self.done = done
        for name, parameter in self.parameters.items():
            moments = {
                m: state[f"{m}.{name}"].to(parameter.device, copy=True)
                for m in MOMENTS
                if f"{m}.{name}" in state
            }
            if moments:
                self._adamw.state[parameter] = moments
            if name in self.average:
                self.average[name].copy_(state[f"average.{name}"])

    def _factor(self) -> float:
        warm = max(1, round(WARMUP * self._steps))
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1, self.done / self._steps))
        return min((self.done + 1) / warm, cosine)


def check_finite(loss: Tensor, what: str, step: int) -> float:
    """The loss as a number.

    Raises:
        RunError: it is NaN or infinite.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise RunError(f"{what}: the loss is {value} at step {step}; try a smaller lr")
    return value


@contextlib.contextmanager
def finite(what: str, remedy: str = "try a smaller lr") -> Generator[None]:
    """A part of a training whose numbers may grow beyond all bounds.

    Args:
        what: is trained, for messages.
        remedy: what helps.

    Raises:
        RunError: a gradient or a logit is NaN or infinite.
    """
    try:
        yield
    except ArithmeticError as error:
        raise RunError(f"{what}: {error}; {remedy}") from error


def torch_device() -> torch.device:
    """Device that trains and scores networks: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_matmul(device: torch.device | None = None) -> contextlib.AbstractContextManager[object]:
    """bfloat16 autocast where the processor multiplies it natively, else nothing.

    Measured on AVX512-BF16: 2.5 times the speed for a network of 700 thousand parameters.
    """
    if device is not None and device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return torch.autocast("cuda", torch.bfloat16)
    elif torch.cpu._is_avx512_bf16_supported():  # pyright: ignore[reportPrivateUsage]
        return torch.autocast("cpu", torch.bfloat16)
    return contextlib.nullcontext()
