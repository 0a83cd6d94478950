from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from edgeprune.data.encoded import Resize, Stretch
from edgeprune.data.pixels import Pixels
from edgeprune.data.preparing import described, preprocessing
from edgeprune.data.preprocess_file import read_preprocess_file
from edgeprune.errors import ConfigError
from edgeprune.recipe import DataPart

PLAIN = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "rescale_factor": 0.00392156862745098}


@pytest.fixture
def processor(tmp_path):
    """A file that says this."""

    def made(**said):
        file = tmp_path / "preprocessor_config.json"
        file.write_text(json.dumps(PLAIN | said))
        return file

    return made


@pytest.mark.parametrize(
    ("said", "resizing"),
    [
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 6}}, Stretch(8, 6)),
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 8, "resample": 3}, Stretch(8, 8, "bicubic")),
        (
            {"image_processor_type": "BitImageProcessorFast", "size": 10, "do_center_crop": True, "crop_size": 8},
            Resize(10, 8),
        ),
        (
            {"size": {"shortest_edge": 10}, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}},
            Resize(10, 8),
        ),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 7, "crop_pct": 0.875}, Resize(8, 7)),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}, Stretch(384, 384)),
        ({"do_resize": False, "size": 8}, None),
        ({"size": 8, "do_reduce_labels": False, "_processor_class": "X"}, Stretch(8, 8)),
    ],
)
def test_what_can_be_done_is_said_in_our_words(processor, said, resizing):
    found = read_preprocess_file(processor(**said))
    assert found.resizing == resizing
    assert (found.levels, found.mean, found.std) == (255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def test_steps_that_are_left_out_leave_pixels_as_they_are(processor):
    found = read_preprocess_file(processor(do_resize=False, do_rescale=False, do_normalize=False))
    assert (found.levels, found.mean, found.std) == (1, (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"image_processor_type": "LevitImageProcessor", "size": 8}, "Levit does more to images than resize"),
        ({"size": 8, "do_pad": True}, "do_pad cannot be followed"),
        ({"size": 8, "rescale_offset": True}, "rescale_offset cannot be followed"),
        ({"size": 8, "resample": 1}, "resample 1 is neither 2"),
        ({"size": {"shortest_edge": 8}}, r"size {'shortest_edge': 8} cannot be followed"),
        ({"size": 9, "do_center_crop": True, "crop_size": 8}, "with crop_size .* cannot be followed"),
        ({"do_resize": False, "do_center_crop": True, "crop_size": 8}, "do_center_crop without do_resize"),
        ({}, "damaged .*size"),
        ({"size": 8, "image_mean": "x"}, "mean: input should be a valid tuple"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(processor, said, why):
    with pytest.raises(ConfigError, match=rf"preprocessor_config.json.*{why}"):
        read_preprocess_file(processor(**said))


def test_a_file_that_is_no_json_is_told(processor):
    file = processor()
    for text, why in (("{", "cannot be read"), ("[]", "holds list")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=why):
            read_preprocess_file(file)


@pytest.mark.parametrize(
    "said",
    [
        {"size": {"height": 12, "width": 10}, "resample": 3},
        {"size": {"height": 16, "width": 20}, "resample": 2, "do_normalize": False},
    ],
)
def test_it_does_to_images_what_the_library_does(processor, tmp_path, said):
    transformers = pytest.importorskip("transformers")
    random = np.random.default_rng(0)
    for row in range(20):
        file = tmp_path / "photos" / "ab"[row % 2] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (30, 24, 3), np.uint8)).save(file)
    file = processor(image_processor_type="ViTImageProcessor", **said)
    part = DataPart(name=str(tmp_path / "photos"), preprocess=file)
    ours = preprocessing(part, described(part))
    assert isinstance(ours, Pixels)
    image = Image.open(next((tmp_path / "photos").rglob("*.png")))
    theirs = transformers.ViTImageProcessorPil.from_pretrained(tmp_path)(image, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ours.normalized(np.asarray(ours.resize(image))[None]), theirs, atol=1e-5)
