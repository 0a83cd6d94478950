from __future__ import annotations

import pytest

from edgeprune.models.stem import is_small


@pytest.mark.parametrize(
    ("shape", "small"),
    [((3, 32, 32), True), ((1, 63, 63), True), ((3, 32, 224), True), ((3, 64, 64), False), ((3, 224, 224), False)],
)
def test_an_image_is_small_if_a_side_is_below_64_pixels(shape, small):
    assert is_small(shape) is small
