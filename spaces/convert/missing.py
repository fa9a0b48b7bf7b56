"""Known families that cannot be converted, and what the vocabulary lacks for them."""

from __future__ import annotations

MISSING = {
    "timm.EfficientVit": "MBConv that halves the grid, MBConv with biases for norms, and layers "
    "before the head",
    "timm.EfficientVitMsra": "cascaded heads inside windows with position biases, and convolutions "
    "and MLPs with norms after them",
}
