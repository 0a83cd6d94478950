"""What is done to an 8-bit image before a model sees it, as data."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ConfigError, CorruptError, DataError

FILE = "preprocess.json"


@dataclass(frozen=True)
class Preprocess:
    """(pixel / levels - mean) / std per channel, in float32, with channels first."""

    levels: float
    """The pixel value that becomes 1: 255, or 16 for digits."""
    mean: tuple[float, ...]
    """Per channel, of pixel / levels."""
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigError(f"normalize: {len(self.mean)} means for {len(self.std)} deviations: one each per channel")
        if not all(math.isfinite(value) and value > 0 for value in (self.levels, *self.std)):
            raise ConfigError(f"normalize: levels {self.levels} and std {self.std} must be positive and finite")
        if not all(math.isfinite(value) for value in self.mean):
            raise ConfigError(f"normalize: mean {self.mean} must be finite")

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images [N, H, W, C] to a model's input [N, C, H, W]. Raises DataError where the channels differ."""
        if images.ndim != 4 or images.shape[-1] != len(self.mean):
            raise DataError(f"images of shape {images.shape} do not fit a mean of {len(self.mean)} channels")
        x = images.astype(np.float32) / np.float32(self.levels)
        x = (x - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    def to_json(self) -> dict[str, Any]:
        """What `preprocess.json` of a bundle holds."""
        return {
            "formula": "(pixel / levels - mean) / std",
            "layout": "NCHW",
            "levels": self.levels,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Preprocess:
        """Read what `to_json` wrote. Raises CorruptError."""
        try:
            return cls(float(raw["levels"]), tuple(map(float, raw["mean"])), tuple(map(float, raw["std"])))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(
                f"preprocess: {type(error).__name__} {error}: levels, mean and std are needed"
            ) from error


def read_preprocess(root: Path) -> Preprocess | None:
    """What a bundle does to images; None where it has no such file. Raises CorruptError."""
    path = root / FILE
    if not path.is_file():
        return None
    try:
        return Preprocess.from_json(json.loads(path.read_bytes()))
    except ValueError as error:
        raise CorruptError(f"{path}: not JSON: compile again") from error
