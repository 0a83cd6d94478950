from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.data.datasets import describe, read
from edgeprune.errors import ConfigError, MissingError
from edgeprune.train.batches import PAD, augment, device_for, to_input


def test_a_batch_is_to_the_last_bit_what_the_data_sets_preprocessing_gives():
    info = describe("digits")
    preprocess, columns = info.preprocess, read(info.splits["select"], info).columns
    batch = to_input(torch.tensor(columns["image"]), preprocess).numpy()
    np.testing.assert_array_equal(batch, preprocess(columns)["image"])


def test_every_augmented_image_is_a_crop_of_its_padded_self_mirrored_or_not():
    images = torch.randint(1, 255, (64, 6, 7, 3), dtype=torch.uint8)
    changed = augment(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    padded = torch.nn.functional.pad(images, (0, 0, PAD, PAD, PAD, PAD))
    mirrored = 0
    for image, found in zip(padded, changed, strict=True):
        crops = [image[y : y + 6, x : x + 7] for y in range(2 * PAD + 1) for x in range(2 * PAD + 1)]
        straight = any(torch.equal(found, crop) for crop in crops)
        assert straight or any(torch.equal(found.flip(1), crop) for crop in crops)
        mirrored += not straight
    assert 16 < mirrored < 48  # 32 are expected; 4 standard deviations


def test_a_device_that_is_not_here_is_missing_and_one_that_is_none_is_a_mistake():
    assert device_for("cpu").type == "cpu"
    with pytest.raises(MissingError, match="use --device cpu"):
        device_for(f"cuda:{torch.cuda.device_count()}")
    for name in ("gpu", "meta"):
        with pytest.raises(ConfigError, match="write cpu, cuda or cuda:0"):
            device_for(name)
