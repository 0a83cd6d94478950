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


FREE = (TensorSpec("ids", "int64", (1, "seq")), TensorSpec("mask", "int64", (1, "seq")), TensorSpec("t", "float32", ()))


def text(ids, mask):
    return {"ids": np.zeros(ids, np.int64), "mask": np.zeros(mask, np.int64), "t": np.array(0.5, np.float32)}


@pytest.mark.parametrize("length", [1, 7])
def test_a_free_dimension_takes_any_size(length):
    check_feeds(FREE, text((1, length), (1, length)))


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (text((1, 7), (1, 8)), r"input 'mask' is int64 \[1, 8\]; the model takes int64 \[1, seq\], where seq is 7"),
        (text((2, 7), (2, 7)), r"input 'ids' is int64 \[2, 7\]; the model takes int64 \[1, seq\]"),
        (text((7,), (7,)), r"input 'ids' is int64 \[7\]"),
    ],
)
def test_one_name_is_one_size(feeds, message):
    with pytest.raises(DataError, match=message):
        check_feeds(FREE, feeds)


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
