"""Known families that cannot be converted, and what the vocabulary lacks for them."""

from __future__ import annotations

MISSING = {
    "timm.EfficientVit": "MBConv that halves the grid, MBConv with biases for norms, and layers "
    "before the head",
    "timm.EfficientVitMsra": "cascaded heads inside windows with position biases, and convolutions "
    "and MLPs with norms after them",
    "timm.Levit": "attention that halves the grid, and values wider than keys",
    "timm.EfficientFormer": "MLPs with norms inside instead of before, values wider than keys, and "
    "biases by absolute offset",
    "timm.EfficientFormerV2": "attention on a coarser grid with heads that are mixed, and "
    "convolutions inside MLPs",
}
