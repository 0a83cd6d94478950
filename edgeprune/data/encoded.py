"""Images as they are stored, compressed, and how they become pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DataError

CHANNELS = {"L": 1, "RGB": 3}


@dataclass(frozen=True)
class Encoded:
    """Compressed images, their labels [N], and where each lies, for messages."""

    images: Sequence[bytes]
    labels: NDArray[np.int64]
    places: Sequence[str]


def decode(encoded: Encoded) -> NDArray[np.uint8]:
    """All images as [N, H, W, C].

    Raises DataError naming the image that cannot be decoded, is not 8-bit grey or RGB, or has another shape than the
    first.
    """
    shape = shape_of(encoded.images[0], encoded.places[0])
    pixels = np.empty((len(encoded.images), *shape), np.uint8)
    for image, place, out in zip(encoded.images, encoded.places, pixels, strict=True):
        decoded = _pixels(image, place)
        if decoded.shape != shape:
            raise DataError(
                f"{place}: {_spelled(decoded.shape)}, but {encoded.places[0]} is {_spelled(shape)}: "
                f"bring all images to one size and one mode"
            )
        out[...] = decoded
    return pixels


def shape_of(image: bytes, place: str) -> tuple[int, int, int]:
    """Height, width and channels. Raises DataError where it cannot be decoded."""
    height, width, channels = _pixels(image, place).shape
    return height, width, channels


def _pixels(image: bytes, place: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(image)) as opened:
            mode = opened.mode
            pixels = np.asarray(opened)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{place}: not an image that can be decoded ({type(error).__name__})") from error
    if mode not in CHANNELS:
        raise DataError(f"{place}: image mode {mode}: convert it to 8-bit grey (L) or RGB")
    return pixels.reshape(*pixels.shape[:2], CHANNELS[mode])


def _spelled(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height}x{width} {'grey' if channels == 1 else 'RGB'}"
