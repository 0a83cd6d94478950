"""Whether images can be images, and come out of their normalization as it was meant: noise and wrong scales do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.pixels import Pixels
from edgeprune.errors import DataError

LEAST_CORRELATION = 0.2
"""Between neighbouring pixels, in one direction at least. White noise has 0, give or take 0.04 in 16 images of 8x8
pixels; the digits have 0.44 and 0.74, MNIST and CIFAR-10 0.8 to 0.9."""
FURTHEST_MEAN, SPREADS = 3.0, (0.1, 10.0)
"""Of normalized pixels; they should be about 0 and 1."""
FEWEST_PIXELS = 4
"""Along a side of an image, below which neighbours are too few to tell."""


def check_images(images: NDArray[Any], preprocess: Pixels, name: str) -> None:
    """Refuse images [N, H, W, C] as they are stored that nothing can be calibrated on; `name`: of the data.

    Raises DataError where they are noise or all of one colour, or where normalization leaves them far from mean 0 and
    deviation 1 though it claims to divide by a deviation.
    """
    if min(images.shape[1:3]) >= FEWEST_PIXELS:
        down, right = neighbours(images)
        if np.isnan(down):
            raise DataError(f"{name}: every calibration image is of one colour: calibrate on real samples")
        if max(abs(down), abs(right)) < LEAST_CORRELATION:
            raise DataError(
                f"{name}: the calibration images are noise: neighbouring pixels correlate by {right:.2f} and"
                f" {down:.2f}, in images by more than {LEAST_CORRELATION}: calibrate on real samples"
            )
    if any(deviation != 1 for deviation in preprocess.std):
        _check_normalized(preprocess.normalized(images), name)


def remark_on_tensors(columns: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Of arrays [N, C, H, W] in which no value is like its neighbours: noise, if they are meant to be images.

    They may be anything, so nothing is refused.
    """
    for name, x in columns.items():
        if x.ndim == 4 and np.issubdtype(x.dtype, np.floating) and min(x.shape[2:]) >= FEWEST_PIXELS:
            down, right = neighbours(np.moveaxis(x, 1, -1))
            if max(abs(down), abs(right)) < LEAST_CORRELATION:
                yield (
                    f"'{name}' looks like noise: neighbouring values correlate by {right:.2f} and {down:.2f}: ranges"
                    " that are taken from random numbers ruin a network without an error"
                )


def neighbours(images: NDArray[Any]) -> tuple[float, float]:
    """How pixels of images [N, H, W, C] correlate with those below and to the right of them; NaN where all are one.

    Taken about each image's own mean per channel, so that dark and bright images do not count as correlated pixels.
    """
    total = np.zeros(3)
    for image in images:  # one by one: in double precision all would take eight times the room
        x = image - image.mean((0, 1), dtype=np.float64)
        total += [np.mean(x[1:] * x[:-1]), np.mean(x[:, 1:] * x[:, :-1]), np.mean(x * x)]
    with np.errstate(invalid="ignore"):
        down, right = total[:2] / total[2]
    return float(down), float(right)


def _check_normalized(x: NDArray[np.float32], name: str) -> None:
    mean, spread = float(x.mean(dtype=np.float64)), float(x.std(dtype=np.float64))
    if abs(mean) > FURTHEST_MEAN or not SPREADS[0] <= spread <= SPREADS[1]:
        raise DataError(
            f"{name}: normalized calibration images have mean {mean:.3g} and deviation {spread:.3g} instead of about 0"
            " and 1: check levels, mean and std (std: 1 where the model takes pixels as they are)"
        )
