"""What is done to an 8-bit image before a model sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.encoded import Resize, Resizing, Stretch
from edgeprune.data.preprocess import Columns
from edgeprune.errors import ConfigError, CorruptError, DataError
from edgeprune.tensor import IMAGE, TensorSpec

Layout = Literal["NCHW", "NHWC"]
Channels = Literal["RGB", "BGR"]


@dataclass(frozen=True)
class Pixels:
    """(pixel / levels - mean) / std per channel, in float32."""

    size: tuple[int, int]
    """Height and width of the images it takes."""
    levels: float
    """The pixel value that becomes 1: 255, or 16 for digits."""
    mean: tuple[float, ...]
    """Per channel, in the order of `channels`, of pixel / levels."""
    std: tuple[float, ...]
    resize: Resizing | None = None
    """How images of other sizes are brought to `size` when they are decoded; None: they must have it."""
    layout: Layout = "NCHW"
    """Whether a model takes channels before or after height and width."""
    channels: Channels = "RGB"
    """The order in which it takes colours; images are stored as RGB."""

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigError(f"normalize: {len(self.mean)} means for {len(self.std)} deviations: one each per channel")
        if not all(math.isfinite(value) and value > 0 for value in (self.levels, *self.std)):
            raise ConfigError(f"normalize: levels {self.levels} and std {self.std} must be positive and finite")
        if not all(math.isfinite(value) for value in self.mean):
            raise ConfigError(f"normalize: mean {self.mean} must be finite")
        if self.layout not in get_args(Layout) or self.channels not in get_args(Channels):
            raise ConfigError(f"layout {self.layout!r}, channels {self.channels!r}: NCHW or NHWC, RGB or BGR")
        if self.channels == "BGR" and len(self.mean) != 3:
            raise ConfigError(f"channels BGR: the images have {len(self.mean)} channel: leave it out")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return (*self.size, len(self.mean))

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """One float32 tensor [batch, C, H, W], or [batch, H, W, C]."""
        height, width, channels = self.shape
        sizes = (channels, height, width) if self.layout == "NCHW" else self.shape
        return (TensorSpec(IMAGE, "float32", ("batch", *sizes)),)

    def __call__(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """Map images [N, H, W, C] to a model's input. Raises DataError where there are none, or other channels."""
        if IMAGE not in columns:
            raise DataError(f"images are needed: there is {', '.join(columns)}")
        return {IMAGE: self.normalized(columns[IMAGE])}

    def normalized(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images [N, H, W, C] of any size as float32 in the model's layout. Raises DataError where channels differ."""
        if images.ndim != 4 or images.shape[-1] != len(self.mean):
            raise DataError(f"images of shape {images.shape} do not fit a mean of {len(self.mean)} channels")
        ordered = images[..., ::-1] if self.channels == "BGR" else images
        x = ordered.astype(np.float32) / np.float32(self.levels)
        x = (x - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if self.layout == "NCHW" else x)

    def to_json(self) -> dict[str, Any]:
        """What `preprocess.json` of a bundle holds."""
        return {
            "kind": "image",
            "formula": "(pixel / levels - mean) / std",
            "layout": self.layout,
            "channels": self.channels,
            "size": list(self.size),
            "resize": None if self.resize is None else asdict(self.resize),
            "levels": self.levels,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def save(self, folder: Path) -> None:
        """Nothing lies beside the JSON."""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], folder: Path) -> Pixels:
        """Read what `to_json` wrote. Raises CorruptError."""
        try:
            height, width = map(int, raw["size"])
            mean, std = tuple(map(float, raw["mean"])), tuple(map(float, raw["std"]))
            order = raw.get("layout", "NCHW"), raw.get("channels", "RGB")
            return cls((height, width), float(raw["levels"]), mean, std, _resizing(raw.get("resize")), *order)
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise CorruptError(
                f"{folder}: preprocess: {type(error).__name__} {error}: size, levels, mean and std are needed"
            ) from error


def _resizing(raw: Mapping[str, Any] | None) -> Resizing | None:
    if not raw:
        return None
    return Stretch(**raw) if "height" in raw else Resize(**raw)
