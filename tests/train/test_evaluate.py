from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.data.datasets import Samples, describe, read
from edgeprune.errors import DataError
from edgeprune.models.zoo import build
from edgeprune.train.evaluate import evaluate

INFO = describe("digits")


def test_scores_are_those_of_the_model_whatever_the_batch():
    model = build("cnn", input_shape=(1, 8, 8), classes=10)
    samples = read(INFO.splits["select"])
    with torch.no_grad():
        expected = model.eval()(torch.tensor(INFO.preprocess(samples.images))).numpy()
    for batch in (7, 300):
        np.testing.assert_allclose(evaluate(model, samples, INFO.preprocess, batch=batch), expected, atol=1e-5)


def test_it_uses_trained_statistics_and_gives_the_mode_back():
    model = build("resnet20", input_shape=(1, 8, 8), classes=10)
    before = model.bn1.running_mean.clone()
    model.train()
    evaluate(model, read(INFO.splits["select"]), INFO.preprocess)
    assert model.training
    assert torch.equal(model.bn1.running_mean, before)


def test_no_samples_are_refused():
    with pytest.raises(DataError, match="no samples"):
        evaluate(torch.nn.Flatten(), Samples(np.empty((0, 8, 8, 1), np.uint8), np.empty(0, np.int64)), INFO.preprocess)
