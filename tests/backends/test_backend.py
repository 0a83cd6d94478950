from __future__ import annotations

import numpy as np
import pytest

from edgeprune.backends.backend import check_feeds
from edgeprune.errors import DataError
from edgeprune.tensor import TensorSpec

SPECS = (TensorSpec("x", "float32", (1, 2)), TensorSpec("mask", "int64", (1, 2)))
RIGHT = {"x": np.zeros((1, 2), np.float32), "mask": np.zeros((1, 2), np.int64)}


def test_what_fits_passes():
    check_feeds(SPECS, RIGHT)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"x": RIGHT["x"]}, r"inputs \['x'\] given; the model takes \['x', 'mask'\]"),
        ({"x": RIGHT["x"], "musk": RIGHT["mask"]}, "musk"),
        ({**RIGHT, "more": RIGHT["x"]}, "more"),
        (
            {**RIGHT, "mask": np.zeros((1, 2), np.int32)},
            r"input 'mask' is int32 \[1, 2\]; the model takes int64 \[1, 2\]",
        ),
        ({**RIGHT, "x": np.zeros(2, np.float32)}, r"input 'x' is float32 \[2\]"),
    ],
)
def test_what_does_not_fit_is_named(feeds, message):
    with pytest.raises(DataError, match=message):
        check_feeds(SPECS, feeds)
