"""Adaptation: a start learns the images of a run; first its head, then all of it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from ...spaces import Candidate
from ...spaces.networks import Network
from ...spaces.networks.refit import LEAVING
from ..config import AdaptConfig, Balance
from ..console import progress, stop_request
from ..data.balance import class_weights
from ..data.dataset import Data
from ..training.accuracy import accuracy
from ..training.checkpoint import Checkpoint, State
from ..training.finetune import Best
from ..training.forward import predict
from ..training.losses import label_loss
from ..training.optimizer import Optimizer, check_finite, fast_matmul, finite, torch_device
from ..training.parts import Parts
from ..training.teacher import batches_in, shuffled
from .patches import Patches
from .probe import fit_head

NOW, BEST = "now.", "best."  # of a checkpoint: weights in training, and the best so far


@dataclass(frozen=True)
class Adaptation:
    """Adapts a start to the train images.

    Weights are compared on the validation images, through all patch sizes: as they came, if the
    start knows the classes; after the linear probe; and after each pass of fine-tuning, in which
    blocks learn the more slowly the earlier they are (layer-wise decay, BEiT, arXiv:2106.08254).

    Attributes:
        data: images and labels.
        config: recipe.
        seed: of the order of the images, and of what is blended.
        goal: name of the accuracy by which weights are compared.
        balance: what is done about classes of few images.
        patch_sizes: in pixels, through which the images are looked at beside the network's own.
    """

    data: Data
    config: AdaptConfig
    seed: int
    goal: str = "accuracy"
    balance: Balance = "none"
    patch_sizes: Sequence[int] = ()

    def __call__(self, network: Network, checkpoint: Checkpoint, knows: bool) -> dict[str, float]:
        """Train a network in place; it ends with its best weights, in evaluation mode.

        A training that was stopped goes on from its checkpoint as if it had not been.

        Args:
            network: with the classes of the data.
            checkpoint: where the training is kept as it goes.
            knows: whether its head is for these classes already.

        Returns:
            Accuracies on the validation images: with "_before" where it knows the classes, with
            "_probed" where there was a probe, and those at the end with their intervals.

        Raises:
            RunError: the loss, a gradient or a logit is no number, or the checkpoint is of another
                training.
            KeyboardInterrupt: as asked, after the checkpoint was written.
        """
        config = self.config
        network.to(torch_device())
        patches = Patches(network, self.patch_sizes)
        if state := checkpoint.load():
            network.load_state_dict(_part(state, NOW))
            best = Best(_part(state, BEST), state.notes["score"])
            facts: dict[str, float] = state.notes["facts"]
        else:
            best, facts = self._begin(network, patches, knows)
        each = batches_in(len(self.data.train_labels), config.batch_size)
        scale = layer_scale(network, config.layer_decay)
        steps = each * config.epochs
        optimizer = Optimizer(network.named_parameters(), config, steps, scale)
        parts = Parts("start")
        if state:
            optimizer.load_state_dict(state.tensors, state.step)

        def judge(_: Network) -> float:
            return fmean(self._scores(patches))

        def keep() -> None:
            tensors = {f"{NOW}{n}": v for n, v in network.state_dict().items()}
            tensors |= {f"{BEST}{n}": v for n, v in best.weights.items()}
            notes = {"facts": facts, "score": best.score}
            checkpoint.save(State(optimizer.done, tensors | optimizer.state_dict(), notes))

        if steps:
            keep()  # at once, as the probe may have taken minutes
        looks = patches.looks
        counts = self.goal if looks == 1 else f"{self.goal} in {looks} patch sizes"
        with progress(steps, "start") as bar, stop_request() as asked:
            bar.update(optimizer.done)
            for index, images in self._batches(optimizer.done):
                loss = self._loss(patches, images, index, optimizer.done)
                mean = parts.backward(len(index), loss, optimizer)
                check_finite(mean, "start", optimizer.done)
                with finite("start", "try a smaller start.adapt.lr"):
                    optimizer.step()
                    if optimizer.done % each == 0:
                        best.offer(network, optimizer.average, judge)
                bar.set_postfix({counts: f"{best.score:.1%}"}, refresh=False)
                bar.update()
                if asked.is_set():
                    keep()
                    raise KeyboardInterrupt
                if checkpoint.due():
                    keep()
        network.load_state_dict(best.weights)
        network.to("cpu").eval()
        return facts | self._accuracies(network)

    def _begin(
        self, network: Network, patches: Patches, knows: bool
    ) -> tuple[Best, dict[str, float]]:
        """The better head of the one that it has and a new one, in place, and their accuracies."""
        best, facts = Best(), dict[str, float]()
        passes = self.config.probe_epochs

        def offer(name: str) -> None:
            with finite("start", "a damaged checkpoint, or images of another kind"):
                scores = self._scores(patches)
            facts[f"{self.goal}_{name}"] = scores[0]
            best.offer(network, {}, lambda _: fmean(scores))

        if knows or not passes:
            offer("before")
        if passes and self.config.epochs:
            fit_head(network, self.data, passes, self.balance != "none")
            offer("probed")
        network.load_state_dict(best.weights)
        return best, facts

    def _scores(self, patches: Patches) -> list[float]:
        """Accuracies through the patch sizes, its own first; weights are compared by their mean."""
        return [self._accuracies(seen)[self.goal] for seen in patches.networks()]

    def _accuracies(self, network: Network) -> dict[str, float]:
        split = self.data.split("validation")
        candidate = Candidate.uncompressed(network.architecture)
        return accuracy(predict(candidate, network, split), split.labels)

    def _batches(self, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers and images of each step from one on; each pass sees the next view."""
        labels, views, size = self.data.train_labels, self.data.views(), self.config.batch_size
        first, skipped = divmod(done, batches_in(len(labels), size))
        for epoch in range(first, self.config.epochs):
            order = shuffled(labels, size, self.seed, epoch, self.balance)[skipped:]
            skipped = 0
            yield from zip(order, views.batches(epoch, order), strict=True)

    def _loss(
        self, patches: Patches, images: Tensor, index: Tensor, step: int
    ) -> Callable[[Tensor], Tensor]:
        """Cross entropy of a batch, blended with itself in reverse where the recipe says so.

        It is a function of the numbers of some images in the batch. Blending is mixup (Zhang et
        al., arXiv:1710.09412).
        """
        device, labels = torch_device(), self.data.train_labels[index]
        weighted = self.balance == "weight"
        weights = class_weights(self.data.train_labels)[index].to(device) if weighted else None
        images, labels, share = images.to(device), labels.to(device), 1.0
        if alpha := self.config.mixup:
            # A function of seed and step, so that a training goes on with the same shares.
            share = random.Random(f"{self.seed}-{step}").betavariate(alpha, alpha)
            images = share * images + (1 - share) * images.flip(0)

        def against(order: Tensor, logits: Tensor) -> Tensor:
            counted = None if weights is None else weights[order]
            return label_loss(logits, labels[order], counted, self.config.label_smoothing)

        def loss(part: Tensor) -> Tensor:
            with fast_matmul(device):
                seen = patches.logits(images[part], step)
            return torch.stack([blended(part, logits.float()) for logits in seen]).mean()

        def blended(part: Tensor, logits: Tensor) -> Tensor:
            if share == 1:
                return against(part, logits)
            turned = len(index) - 1 - part
            return share * against(part, logits) + (1 - share) * against(turned, logits)

        return loss


def layer_scale(network: Network, decay: float) -> Callable[[str], float]:
    """Factor of the learning rate by the name of a parameter: 1 after the blocks, less below."""
    depths = [len(stage.blocks) for stage in network.architecture.stages]
    total = sum(depths) + 1

    def scale(name: str) -> float:
        found = re.match(r"stages\.(\d+)\.(?:blocks\.(\d+)\.)?", name)
        if found:
            stage, block = int(found[1]), int(found[2] or 0)
            return decay ** (total - 1 - sum(depths[:stage]) - block)
        return 1.0 if name.partition(".")[0] in LEAVING else decay**total

    return scale


def _part(state: State, prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in state.tensors.items() if n.startswith(prefix)}
