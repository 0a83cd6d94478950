"""Images as they are stored, compressed, and how they become pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ConfigError, DataError

CHANNELS = {"L": 1, "RGB": 3}
GREY, COLOUR = {"1", "L", "LA"}, {"P", "RGBA", "CMYK", "RGB"}
"""Modes that are brought to L or RGB, and to RGB, where images are resized: ImageNet holds some of each."""


Filter = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Resize:
    """Bring an image to one size: its shorter side to `shorter`, then the middle `crop` x `crop` of it.

    As networks for ImageNet are evaluated: 256, then 224.
    """

    shorter: int
    crop: int
    filter: Filter = "bilinear"

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.shorter:
            raise ConfigError(f"resize to {self.shorter} and crop {self.crop}: the crop must lie within the image")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that come out."""
        return (self.crop, self.crop)

    def __call__(self, image: Any) -> Any:
        """A PIL image in its new size."""
        scale = self.shorter / min(image.size)
        width, height = (max(self.shorter, round(side * scale)) for side in image.size)
        left, top = (width - self.crop) // 2, (height - self.crop) // 2
        return _resized(image, width, height, self.filter).crop((left, top, left + self.crop, top + self.crop))


@dataclass(frozen=True)
class Stretch:
    """Bring an image to one size, whatever its proportions."""

    height: int
    width: int
    filter: Filter = "bilinear"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that come out."""
        return (self.height, self.width)

    def __call__(self, image: Any) -> Any:
        """A PIL image in its new size."""
        return _resized(image, self.width, self.height, self.filter)


Resizing = Resize | Stretch


def decode(
    images: Sequence[bytes], places: Sequence[str], resize: Resizing | None = None, channels: int | None = None
) -> NDArray[np.uint8]:
    """All images as [N, H, W, C]: as they are, or with `resize` in its size and with these `channels` (None: as many as
    the first has, of which one stays grey).

    Raises DataError naming the image that cannot be decoded, is not 8-bit grey or RGB, or has another shape than the
    first.
    """
    shape = shape_of(images[0], places[0], resize, channels)
    pixels = np.empty((len(images), *shape), np.uint8)
    for image, place, out in zip(images, places, pixels, strict=True):
        decoded = _pixels(image, place, resize, shape[-1])
        if decoded.shape != shape:
            raise DataError(
                f"{place}: {_spelled(decoded.shape)}, but {places[0]} is {_spelled(shape)}: "
                f"bring all images to one size and one mode, or say how with --preprocess"
            )
        out[...] = decoded
    return pixels


def shape_of(
    image: bytes, place: str, resize: Resizing | None = None, channels: int | None = None
) -> tuple[int, int, int]:
    """Height, width and channels, as `decode` gives them. Raises DataError where it cannot be decoded."""
    height, width, found = _pixels(image, place, resize, channels).shape
    return height, width, found


def _pixels(image: Any, place: str, resize: Resizing | None, channels: int | None) -> NDArray[np.uint8]:
    from PIL import Image

    if not isinstance(image, bytes):
        raise DataError(f"{place}: holds no image bytes")
    try:
        with Image.open(io.BytesIO(image)) as opened:
            if resize is not None and opened.mode in GREY | COLOUR:
                opened = opened.convert("L" if opened.mode in GREY and channels != CHANNELS["RGB"] else "RGB")
            mode = opened.mode
            pixels = np.asarray(opened if resize is None else resize(opened))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{place}: not an image that can be decoded ({type(error).__name__})") from error
    if mode not in CHANNELS:
        raise DataError(f"{place}: image mode {mode}: convert it to 8-bit grey (L) or RGB")
    if resize is not None and channels == CHANNELS["L"] and mode != "L":
        raise DataError(f"{place}: is {mode}, others are grey: convert it, or say channels: RGB with --preprocess")
    return pixels.reshape(*pixels.shape[:2], CHANNELS[mode])


def _resized(image: Any, width: int, height: int, by: Filter) -> Any:
    from PIL import Image

    return image.resize((width, height), Image.Resampling[by.upper()])


def _spelled(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height}x{width} {'grey' if channels == 1 else 'RGB'}"
