from __future__ import annotations

import json

import numpy as np
import pytest

from edgeprune.data.preprocess import Preprocess, read_preprocess
from edgeprune.errors import ConfigError, CorruptError, DataError


def test_pixels_become_what_the_formula_says_with_channels_first():
    images = np.arange(2 * 2 * 3 * 2, dtype=np.uint8).reshape(2, 2, 3, 2)
    x = Preprocess(255, (0.5, 0.25), (0.5, 2.0))(images)
    assert x.dtype == np.float32
    assert x.shape == (2, 2, 2, 3)
    assert x[1, 1, 0, 2] == pytest.approx((images[1, 0, 2, 1] / 255 - 0.25) / 2.0, rel=1e-6)


def test_it_survives_json():
    given = Preprocess(16, (0.307,), (0.376,))
    assert Preprocess.from_json(given.to_json()) == given


def test_damaged_json_is_told():
    with pytest.raises(CorruptError, match="levels, mean and std are needed"):
        Preprocess.from_json({"levels": 255, "mean": [0.5]})


@pytest.mark.parametrize(
    ("levels", "mean", "std"),
    [(255, (0.5,), (0.0,)), (0, (0.5,), (0.5,)), (255, (0.5,), (0.5, 0.5)), (255, (float("nan"),), (1.0,))],
)
def test_numbers_that_cannot_be_used_are_refused_at_birth(levels, mean, std):
    with pytest.raises(ConfigError, match="normalize"):
        Preprocess(levels, mean, std)


def test_grey_images_do_not_fit_three_means():
    with pytest.raises(DataError, match="3 channels"):
        Preprocess(255, (0.5,) * 3, (0.5,) * 3)(np.zeros((1, 4, 4, 1), np.uint8))


def test_what_a_bundle_does_to_images_is_read_from_its_file(tmp_path):
    assert read_preprocess(tmp_path) is None
    (tmp_path / "preprocess.json").write_text(json.dumps(Preprocess(16, (0.5,), (0.25,)).to_json()))
    assert read_preprocess(tmp_path) == Preprocess(16, (0.5,), (0.25,))
    (tmp_path / "preprocess.json").write_text("{")
    with pytest.raises(CorruptError, match="not JSON"):
        read_preprocess(tmp_path)
