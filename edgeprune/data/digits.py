"""The 1,797 handwritten digits that come with EdgePrune, so that its first job and its tests need no download.

`digits.npz` holds the images of scikit-learn's `load_digits` (made with 1.9.1) in their order: the test part of
"Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository 1998,
https://doi.org/10.24432/C50P49, licence CC BY 4.0. Each is 8x8; a pixel counts what is inked of 4x4, 0 to 16.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@cache
def load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [1797, 8, 8, 1] and labels [1797]; read-only."""
    with np.load(Path(__file__).with_name("digits.npz")) as stored:
        images, labels = stored["images"][..., np.newaxis], stored["labels"].astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels
