"""Which images are small: networks drawn for 224x224 would shrink them to a point, so they halve them less often."""

from __future__ import annotations

SMALL = 64
"""Pixels: a side below it makes an image small."""


def is_small(input_shape: tuple[int, int, int]) -> bool:
    """Whether images [C, H, W] get the stem of the CIFAR networks, not that of the ImageNet networks."""
    return min(input_shape[1:]) < SMALL
