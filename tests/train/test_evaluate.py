from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.data.datasets import describe, read
from edgeprune.data.samples import Samples
from edgeprune.data.tensors import Tensors
from edgeprune.errors import DataError
from edgeprune.models.zoo import build
from edgeprune.tensor import TensorSpec
from edgeprune.train.evaluate import evaluate

INFO = describe("digits")
PREPROCESS = INFO.preprocess
SELECT = read(INFO.splits["select"], INFO)


def test_scores_are_those_of_the_model_whatever_the_batch():
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    with torch.no_grad():
        expected = model.eval()(torch.tensor(PREPROCESS(SELECT.columns)["image"])).numpy()
    for batch in (7, 300):
        found = evaluate(model, SELECT, PREPROCESS, batch=batch)
        assert list(found) == ["output"]
        np.testing.assert_allclose(found["output"], expected, atol=1e-5)


def test_it_uses_trained_statistics_and_gives_the_mode_back():
    model = build("resnet20", {"input_shape": (1, 8, 8), "classes": 10})
    before = model.bn1.running_mean.clone()
    model.train()
    evaluate(model, SELECT, PREPROCESS)
    assert model.training
    assert torch.equal(model.bn1.running_mean, before)


def test_no_samples_are_refused():
    with pytest.raises(DataError, match="no samples"):
        evaluate(torch.nn.Flatten(), Samples({"image": np.empty((0, 8, 8, 1), np.uint8)}, None), PREPROCESS)


def test_every_output_of_a_model_is_kept_by_its_name():
    class Two(torch.nn.Module):
        def forward(self, b, a):
            return {"sum": a + b, "first": a[:, 0]}

    columns = {name: np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) for name in "ab"}
    preprocess = Tensors(tuple(TensorSpec(name, "float32", ("batch", 3)) for name in "ab"))
    found = evaluate(Two(), Samples(columns, None), preprocess, batch=2)
    np.testing.assert_array_equal(found["sum"], columns["a"] + columns["b"])
    np.testing.assert_array_equal(found["first"], columns["a"][:, 0])
