from __future__ import annotations

import json

import numpy as np
import pytest

from edgeprune.data.encoded import Resize, Stretch
from edgeprune.data.pixels import Pixels
from edgeprune.errors import ConfigError, CorruptError, DataError

IMAGES = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
MEAN, STD = (0.5, 0.25, 0.0), (0.5, 2.0, 1.0)


def test_pixels_become_what_the_formula_says_with_channels_first():
    x = Pixels((2, 3), 255, MEAN, STD)({"image": IMAGES})["image"]
    assert x.dtype == np.float32
    assert x.shape == (2, 3, 2, 3)
    assert x[1, 1, 0, 2] == pytest.approx((IMAGES[1, 0, 2, 1] / 255 - 0.25) / 2.0, rel=1e-6)


def test_channels_may_come_last():
    first, last = Pixels((2, 3), 255, MEAN, STD), Pixels((2, 3), 255, MEAN, STD, layout="NHWC")
    x = last({"image": IMAGES})["image"]
    np.testing.assert_array_equal(x.transpose(0, 3, 1, 2), first({"image": IMAGES})["image"])
    assert x.shape[1:] == last.specs[0].shape[1:] == (2, 3, 3)
    assert x.flags.c_contiguous


def test_blue_may_come_first_and_the_means_are_in_the_order_of_the_model():
    red_only = np.zeros((1, 1, 1, 3), np.uint8)
    red_only[..., 0] = 255
    x = Pixels((1, 1), 255, (0.1, 0.2, 0.3), (1.0,) * 3, channels="BGR")({"image": red_only})["image"]
    np.testing.assert_allclose(x.ravel(), [-0.1, -0.2, 0.7], atol=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        Pixels((8, 8), 16, (0.307,), (0.376,)),
        Pixels((224, 224), 255, MEAN, STD, Resize(256, 224), "NHWC", "BGR"),
        Pixels((240, 320), 1, MEAN, STD, Stretch(240, 320)),
    ],
)
def test_it_survives_json(given, tmp_path):
    raw = json.loads(json.dumps(given.to_json()))
    assert Pixels.from_json(raw, tmp_path) == given


@pytest.mark.parametrize(
    "change", [{"std": None}, {"mean": "x"}, {"size": [1]}, {"layout": "CHWN"}, {"resize": {"crop": 3}}, {"std": [0.0]}]
)
def test_damaged_json_is_told(change, tmp_path):
    raw = Pixels((8, 8), 16, (0.307,), (0.376,)).to_json() | change
    with pytest.raises(CorruptError, match="size, levels, mean and std are needed"):
        Pixels.from_json(raw, tmp_path)


@pytest.mark.parametrize(
    ("levels", "mean", "std"),
    [(255, (0.5,), (0.0,)), (0, (0.5,), (0.5,)), (255, (0.5,), (0.5, 0.5)), (255, (float("nan"),), (1.0,))],
)
def test_numbers_that_cannot_be_used_are_refused_at_birth(levels, mean, std):
    with pytest.raises(ConfigError, match="normalize"):
        Pixels((8, 8), levels, mean, std)


def test_grey_images_have_no_order_of_colours_and_do_not_fit_three_means():
    with pytest.raises(ConfigError, match="1 channel"):
        Pixels((8, 8), 255, (0.5,), (0.5,), channels="BGR")
    with pytest.raises(DataError, match="3 channels"):
        Pixels((4, 4), 255, MEAN, STD)({"image": np.zeros((1, 4, 4, 1), np.uint8)})
    with pytest.raises(DataError, match="images are needed: there is text"):
        Pixels((4, 4), 255, MEAN, STD)({"text": np.array(["a"], object)})
