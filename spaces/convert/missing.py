"""Known families that cannot be converted, and what the vocabulary lacks for them."""

from __future__ import annotations

MISSING = {
    "timm.EfficientVitLarge": "pairs of 3x3 convolutions with a residual, and fused MBConv that "
    "halves the grid",
}
