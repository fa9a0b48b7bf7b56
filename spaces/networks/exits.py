"""ExitHead: a classifier in the middle of a network."""

from __future__ import annotations

from torch import Tensor, nn

from ..architecture import Architecture


class ExitHead(nn.Linear):
    """Classify by the class token, or else by the mean of the patches, as they are in the stream.

    Args:
        architecture: of the network.
        width: channels of the stream.
    """

    def __init__(self, architecture: Architecture, width: int) -> None:
        super().__init__(width, architecture.num_classes)
        self.by_token, self.prefix = architecture.class_tokens > 0, architecture.prefix

    def forward(self, input: Tensor) -> Tensor:
        """Tokens (B, prefix + N, C) or grid (B, C, H, W) -> logits (B, num_classes)."""
        return super().forward(self.pool(input))

    def pool(self, x: Tensor) -> Tensor:
        """Tokens (B, prefix + N, C) or grid (B, C, H, W) -> features (B, C)."""
        if x.ndim == 4:
            x = x.flatten(2).transpose(1, 2)
        return x[:, 0] if self.by_token else x[:, self.prefix :].mean(1)
