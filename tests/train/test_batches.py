from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.data.datasets import describe, read
from edgeprune.data.pixels import Pixels
from edgeprune.data.samples import Samples, objects
from edgeprune.data.tensors import Tensors
from edgeprune.errors import ConfigError, MissingError
from edgeprune.tensor import TensorSpec
from edgeprune.train.batches import PAD, augment, device_for, load_batches, to_input


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


CPU = torch.device("cpu")


def test_a_batch_of_texts_loses_the_padding_that_it_has_in_common(words, sentences):
    inputs = words.specs[:2]
    batches = load_batches(sentences, words, inputs, CPU, task="classification", augmented=False)
    whole = words(sentences.columns)
    for rows in ([0], [3, 5], list(range(20))):
        taken = batches.take(torch.tensor(rows), torch.Generator())
        assert list(taken) == ["input_ids", "attention_mask"]
        longest = int(whole["attention_mask"][rows].sum(1).max())
        for name, tensor in taken.items():
            np.testing.assert_array_equal(tensor, whole[name][rows][:, :longest])
            assert not whole[name][rows][:, longest:].any()
    np.testing.assert_array_equal(batches.targets, sentences.labels)


def test_questions_are_told_where_their_answers_lie(pairs, words, questions):
    batches = load_batches(questions, pairs, pairs.specs, CPU, task="question-answering", augmented=False)
    everything = batches.take(torch.arange(len(questions)), torch.Generator())
    answers = everything["input_ids"].gather(1, batches.targets)
    alone = words({"text": objects([answer.text for (answer,) in questions.labels])})["input_ids"][:, 1]
    np.testing.assert_array_equal(answers, np.stack([alone, alone], axis=1))


def test_values_are_numbers_and_augmentation_is_for_images(words, sentences):
    values = load_batches(sentences, words, words.specs[:1], CPU, task="regression", augmented=False).targets
    assert values.dtype == torch.float32
    with pytest.raises(ConfigError, match=r"train\.augment: pads, crops and mirrors images"):
        load_batches(sentences, words, words.specs[:1], CPU, task="classification", augmented=True)


def test_arrays_are_taken_as_they_are():
    tensors = Tensors((TensorSpec("x", "float32", ("batch", 3)), TensorSpec("mask", "int64", ("batch", 3))))
    columns = {"x": np.ones((4, 3), np.float32), "mask": np.zeros((4, 3), np.int64)}
    samples = Samples(columns, np.zeros(4, np.int64))
    batches = load_batches(samples, tensors, tensors.specs, CPU, task="classification", augmented=False)
    assert batches.take(torch.tensor([1, 2]), torch.Generator())["mask"].shape == (2, 3)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_layout_and_order_of_colours_are_those_of_the_preprocessing(layout, channels):
    pixels = Pixels((4, 5), 255, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), layout=layout, channels=channels)
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    np.testing.assert_array_equal(to_input(torch.tensor(images), pixels).numpy(), pixels.normalized(images))
