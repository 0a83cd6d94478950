from __future__ import annotations

import numpy as np
import pytest

from edgeprune.data.datasets import describe, read
from edgeprune.data.pixels import Pixels
from edgeprune.data.plausible import check_images, neighbours, remark_on_tensors
from edgeprune.errors import DataError
from edgeprune.recipe import Rows

RNG = np.random.default_rng(0)
GREY = Pixels((8, 8), 255, (0.5,), (0.25,))


@pytest.mark.parametrize("rows", ["digits:all", "mnist:test", "cifar10:train", "cifar10_jpeg75:test"])
@pytest.mark.parametrize("count", [16, 256])
def test_real_images_pass(rows, count, request):
    name = rows.partition(":")[0]
    if name != "digits":
        request.getfixturevalue("shared_data")
    images = read(Rows(source=rows, stop=count), describe(name)).columns["image"]
    assert min(neighbours(images)) > 0.4
    check_images(images, describe(name).preprocess, name)


@pytest.mark.parametrize("shape", [(16, 8, 8, 1), (256, 8, 8, 1), (16, 32, 32, 3), (16, 4, 64, 1)])
def test_noise_is_refused_whatever_its_distribution(shape):
    for _ in range(20):
        draws = [
            RNG.integers(0, 256, shape),
            RNG.normal(128, 40, shape).clip(0, 255),
            255 * RNG.integers(0, 2, shape),
            RNG.exponential(20, shape).clip(0, 255),
        ]
        for noise in draws:
            with pytest.raises(DataError, match="the calibration images are noise"):
                check_images(noise.astype(np.uint8), GREY, "mine")


def test_bright_and_dark_noise_is_noise():
    noise = RNG.integers(0, 100, (32, 8, 8, 1)) + np.repeat([0, 150], 16)[:, None, None, None]
    with pytest.raises(DataError, match="noise"):
        check_images(noise.astype(np.uint8), GREY, "mine")


@pytest.mark.parametrize("across", [False, True])
def test_stripes_and_checkerboards_are_images(across):
    stripes = np.broadcast_to(RNG.integers(0, 256, (32, 1, 8, 1)), (32, 8, 8, 1)).astype(np.uint8)
    check_images(stripes.swapaxes(1, 2) if across else stripes, GREY, "mine")
    board = np.indices((8, 8)).sum(0) % 2 * np.uint8(255)
    check_images(np.broadcast_to(board[None, :, :, None], (16, 8, 8, 1)), GREY, "mine")


def test_images_of_one_colour_are_refused():
    flat = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None, None], (32, 8, 8, 1))
    with pytest.raises(DataError, match="every calibration image is of one colour"):
        check_images(flat, GREY, "mine")


def test_a_side_of_a_few_pixels_shows_no_neighbours():
    check_images(RNG.integers(0, 256, (32, 1, 8, 1), np.uint8), GREY, "mine")


@pytest.mark.parametrize(
    ("levels", "mean", "std", "fits"),
    [
        (16, 0.307, 0.376, True),
        (16, 0.0, 1.0, True),  # pixels as they are, 0 to 1
        (1, 0.0, 1.0, True),  # pixels as they are, 0 to 16
        (1, 5.0, 1.0, True),  # only the mean is taken off
        (16, 0.5, 0.5, True),
        (8, 1.0, 1.0, True),
        (255, 0.307, 0.376, False),
        (1, 0.307, 0.376, False),
    ],
)
def test_a_scale_that_does_not_fit_the_normalization_is_refused(levels, mean, std, fits):
    images = read(Rows(source="digits:all", stop=64), describe("digits")).columns["image"]
    preprocess = Pixels((8, 8), levels, (mean,), (std,))
    if fits:
        check_images(images, preprocess, "digits")
    else:
        with pytest.raises(DataError, match="instead of about 0 and 1: check levels, mean and std"):
            check_images(images, preprocess, "digits")


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_arrays_that_could_be_images_and_are_noise_are_remarked_on(channels):
    random = np.random.default_rng(0)
    noise = random.standard_normal((16, channels, 8, 8)).astype(np.float32)
    smooth = noise.cumsum(2).cumsum(3)
    (told,) = remark_on_tensors(
        {"noise": noise, "smooth": smooth, "few": noise[..., :3], "flat": noise.reshape(16, -1)}
    )
    assert told.startswith("'noise' looks like noise: neighbouring values correlate by ")
    assert not list(remark_on_tensors({"ids": np.arange(16 * 64).reshape(16, 1, 8, 8), "one": np.zeros((4, 1, 8, 8))}))
